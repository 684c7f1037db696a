"""The order in which the engine destroys a recorded graph, and what of it is certain.

The engine (pkg/resource/deploy/step_generator.go, ScheduleDeletes) puts resources into waves: in the first,
those on which nothing depends; in the next, those on which only the first depend; and so on. A wave is over
before the next one begins. Two resources without a path between them may still stand in different waves, by
chance: another resource in the stack, or one wave that fails half way, changes that. Only a path is certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.graph.order import NOTHING, Edge, dependencies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.graph import Graph, Recorded


@dataclass(frozen=True)
class Rule:
    """What must outlive what, and what happens when it does not.

    Attributes:
        survivor: what goes last: a type, or a prefix of types that ends in ":"; "[text]" narrows it to
            logical names with the text.
        goes_first: what must be gone by then.
        reason: what would be left, hang or fail.
        own: each of the first needs those of the last that it refers to, and at least one; else all of them.
    """

    survivor: str
    goes_first: str
    reason: str
    own: bool = False

    def __str__(self) -> str:
        return f"{self.goes_first} before {self.survivor}"


def select(graph: Graph, what: str) -> list[Recorded]:
    """Return the resources that one side of a rule means; components are no resources of a cloud."""
    type_, _, name = what.rstrip("]").partition("[")
    return [
        item
        for item in graph
        if item.custom
        and (item.type.startswith(type_) if type_.endswith(":") else item.type == type_)
        and name in item.name
    ]


def waves(graph: Graph, without: frozenset[Edge] = NOTHING) -> list[set[str]]:
    """Return what the engine deletes at once, wave by wave."""
    condemned = set(graph.resources)
    needs = {urn: dependencies(graph, urn, without) for urn in condemned}
    found: list[set[str]] = []
    while condemned:
        wave = {urn for urn in condemned if not needs[urn] & condemned}
        if not wave:
            raise ValueError(f"resources depend on each other in a circle: {sorted(condemned)}")
        condemned -= wave
        found.append(wave)
    return found[::-1]


def reaches(needs: dict[str, set[str]], urn: str) -> set[str]:
    """Return all that certainly outlives a resource."""
    seen: set[str] = set()
    waiting = [urn]
    while waiting:
        for edge in needs[waiting.pop()] - seen:
            seen.add(edge)
            waiting.append(edge)
    return seen


class Teardown:
    """One graph's certainties, with or without some of its edges."""

    def __init__(self, graph: Graph, rules: tuple[Rule, ...]) -> None:
        self._graph = graph
        self._needs = {urn: dependencies(graph, urn) for urn in graph.resources}
        self.pairs = {
            rule: [
                (first.urn, last.urn)
                for first in select(graph, rule.goes_first)
                for last in select(graph, rule.survivor)
                if first.urn != last.urn and (not rule.own or last.urn in self._needs[first.urn])
            ]
            for rule in rules
        }

    def broken(self) -> Iterator[str]:
        """Yield each pair of resources whose order is left to chance."""
        for rule, pairs in self.pairs.items():
            for first, last in pairs:
                if last not in reaches(self._needs, first):
                    yield f"{_name(last)} may go before {_name(first)}: {rule.reason}"
            if rule.own and select(self._graph, rule.survivor):
                alone = {item.urn for item in select(self._graph, rule.goes_first)}
                for first in alone - {first for first, _ in pairs}:
                    yield f"{_name(first)} refers to no {rule.survivor}: {rule.reason}"

    def relevant_edges(self) -> list[Edge]:
        """Return the edges on some path by which a rule holds."""
        outlive = {urn: reaches(self._needs, urn) | {urn} for urn in self._needs}
        wanted = {pair for pairs in self.pairs.values() for pair in pairs}
        by_first: dict[str, set[str]] = {}
        for first, last in wanted:
            by_first.setdefault(first, set()).add(last)
        return [
            (urn, edge)
            for urn in self._needs
            for edge in self._needs[urn]
            if any(urn in outlive[first] and lasts & outlive[edge] for first, lasts in by_first.items())
        ]

    def without(self, edge: Edge) -> tuple[bool, bool]:
        """Return whether a rule notices that an edge is gone, and whether another path takes its place."""
        urn, gone = edge
        needs = {**self._needs, urn: self._needs[urn] - {gone}}
        elsewhere = gone in reaches(needs, urn)
        if elsewhere:
            return False, True
        lost: dict[str, set[str]] = {}
        for pairs in self.pairs.values():
            for first, last in pairs:
                if first not in lost:
                    lost[first] = reaches(needs, first)
                if last not in lost[first]:
                    return True, False
        return False, False

    def described(self, edge: Edge) -> str:
        """Return an edge in the words of types and names."""
        return " -> ".join(_name(urn) for urn in edge)


def _name(urn: str) -> str:
    type_, name = urn.split("::")[2:4]
    return f"{type_.rpartition('$')[2].rpartition(':')[2]} {name}"
