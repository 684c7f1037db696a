"""What a recorded resource waits for, as the engine counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.graph.record import Graph

Edge = tuple[str, str]
NOTHING: frozenset[Edge] = frozenset()


def dependencies(graph: Graph, urn: str, without: frozenset[Edge] = NOTHING) -> set[str]:
    """Return what the engine deletes only after this resource, itself aside: one step, not all the way.

    Like the engine's DependenciesOf: a component stands for all that was declared in it before.
    """
    order = list(graph.resources)
    before = set(order[: order.index(urn)])
    found: set[str] = set()
    for edge in graph.resources[urn].edges:
        if (urn, edge) in without or edge not in graph.resources:
            continue
        found.add(edge)
        if not graph.resources[edge].custom and edge != graph.resources[urn].parent:
            found |= _inside(graph, edge) & before
    return found


def _inside(graph: Graph, component: str) -> set[str]:
    found: set[str] = set()
    for item in graph:
        if item.parent == component or item.parent in found:
            found.add(item.urn)
    return found
