"""The order of destruction, which edges of the graph carry: what must outlive what, and that edges matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra import variants
from tests.infra.destroy_order import Rule, Teardown, select, waves
from tests.infra.graph import STACKS
from tests.infra.teardown_rules import REDUNDANT, RULES, UNGUARDED

if TYPE_CHECKING:
    from tests.infra.graph import Graph


@dataclass(frozen=True)
class _Item:
    """As much of a resource as the order of destruction looks at."""

    urn: str
    parent: str = ""
    edges: frozenset[str] = frozenset()
    custom: bool = True

    @property
    def type(self) -> str:
        return self.urn.split("::")[2].rpartition("$")[2]

    @property
    def name(self) -> str:
        return self.urn.split("::")[3]


@dataclass
class _Graph:
    resources: dict[str, _Item] = field(default_factory=dict)

    def __iter__(self) -> Any:
        return iter(self.resources.values())


def _urn(name: str) -> str:
    return f"urn:pulumi:s::p::t:{name}::{name}"


def _synthetic(*items: tuple[str, list[str]], inside: dict[str, str] | None = None) -> Any:
    graph = _Graph()
    inside = inside or {}
    for name, needs in items:
        above = inside.get(name)
        edges = {_urn(need) for need in needs} | ({_urn(above)} if above else set())
        graph.resources[_urn(name)] = _Item(
            _urn(name), _urn(above) if above else "", frozenset(edges), name not in inside.values()
        )
    return graph


def _names(found: list[set[str]]) -> list[set[str]]:
    return [{urn.split("::")[3] for urn in wave} for wave in found]


def test_what_others_depend_on_goes_after_them() -> None:
    graph = _synthetic(("vpc", []), ("subnet", ["vpc"]), ("nodes", ["subnet"]), ("logs", []))
    assert _names(waves(graph)) == [{"nodes"}, {"subnet"}, {"vpc", "logs"}]


def test_children_go_before_their_parent() -> None:
    graph = _synthetic(("network", []), ("vpc", []), inside={"vpc": "network"})
    assert _names(waves(graph)) == [{"vpc"}, {"network"}]


def test_who_depends_on_a_component_depends_on_what_was_in_it() -> None:
    """As the engine has it; what is declared in the component later may not be waited for."""
    graph = _synthetic(
        ("network", []),
        ("vpc", []),
        ("cluster", ["network"]),
        ("late", ["cluster"]),
        inside={"vpc": "network", "late": "network"},
    )
    assert _names(waves(graph)) == [{"late"}, {"cluster"}, {"vpc"}, {"network"}]


def test_a_circle_is_said() -> None:
    with pytest.raises(ValueError, match="in a circle"):
        waves(_synthetic(("a", ["b"]), ("b", ["a"])))


def test_an_order_by_chance_is_no_order() -> None:
    """The engine's waves put `logs` after `nodes` here, but nothing says that it must be so."""
    graph = _synthetic(("vpc", []), ("nodes", ["vpc"]), ("logs", []))
    assert _names(waves(graph)) == [{"nodes"}, {"vpc", "logs"}]
    assert list(Teardown(graph, (Rule("t:logs", "t:nodes", "why"),)).broken())
    assert not list(Teardown(graph, (Rule("t:vpc", "t:nodes", "why"),)).broken())


def test_a_lost_edge_is_noticed_unless_another_path_takes_its_place() -> None:
    graph = _synthetic(("vpc", []), ("subnet", ["vpc"]), ("nodes", ["subnet", "vpc"]))
    teardown = Teardown(graph, (Rule("t:vpc", "t:nodes", "why"), Rule("t:subnet", "t:nodes", "why")))
    seen = {teardown.described(edge): teardown.without(edge) for edge in teardown.relevant_edges()}
    assert seen == {
        "nodes nodes -> subnet subnet": (True, False),
        "nodes nodes -> vpc vpc": (False, True),
        "subnet subnet -> vpc vpc": (False, False),
    }


def test_what_must_outlive_something_does(shape: str) -> None:
    graph = variants.recorded(shape, False)
    assert sorted(Teardown(graph, RULES).broken()) == []


def test_the_engine_s_waves_agree_with_the_table(shape: str) -> None:
    graph = variants.recorded(shape, False)
    when = {urn: number for number, wave in enumerate(waves(graph)) for urn in wave}
    for pairs in Teardown(graph, RULES).pairs.values():
        assert all(when[first] < when[last] for first, last in pairs)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_rule_is_about_something(rule: Rule) -> None:
    """A rule whose type is misspelt, or that no stack has any more, would hold of nothing."""
    assert any(
        select(graph, rule.survivor) and select(graph, rule.goes_first)
        for graph in (variants.recorded(shape, False) for shape in [*STACKS, *variants.VARIANTS])
    )


def _kind(edge: str) -> str:
    """Return an edge without what tells one of several like it from the others: numbers and zones."""
    return " -> ".join(side.split()[0] for side in edge.split(" -> "))


@pytest.fixture(scope="module")
def mutations() -> dict[str, set[str]]:
    """What became of the table when each edge of the fullest graph was taken away in turn."""
    teardown = Teardown(variants.recorded(variants.EVERYTHING, False), RULES)
    found: dict[str, set[str]] = {"noticed": set(), "redundant": set(), "unguarded": set()}
    for edge in teardown.relevant_edges():
        noticed, elsewhere = teardown.without(edge)
        where = "noticed" if noticed else "redundant" if elsewhere else "unguarded"
        found[where].add(teardown.described(edge))
    return found


def test_the_table_notices_every_edge_that_matters(mutations: dict[str, set[str]]) -> None:
    assert len(mutations["noticed"]) > 200
    assert {_kind(edge) for edge in mutations["unguarded"]} == frozenset().union(*UNGUARDED.values())


def test_edges_that_another_path_backs_are_known(mutations: dict[str, set[str]]) -> None:
    """They may be taken away without harm: one that appears here unasked has lost its purpose."""
    known = {f"{first} -> {last}" for last, several in REDUNDANT.items() for first in several.split()}
    assert {_kind(edge) for edge in mutations["redundant"]} == known


def test_the_cni_stays_in_the_cluster_when_its_add_on_goes(shape: str) -> None:
    for addon in variants.recorded(shape, False).of_type("aws:eks/addon:Addon"):
        preserved = addon.inputs["addonName"] in ("vpc-cni", "kube-proxy")
        assert bool(addon.inputs.get("preserve")) == preserved


def test_the_sandbox_s_clouds_go_last(updated: Graph, stack: str) -> None:
    if stack != "local":
        assert not [item for item in updated if "Clouds" in item.type]
        return
    (clouds,) = updated.of_type("pulumi-python:dynamic/sandbox:Clouds")
    on_clouds = ("aws:", "kubernetes:", "pulumi:providers:")
    at_clouds = (":Build", ":Copy", ":Sweep", ":Endpoint")
    for item in updated:
        if item.type.startswith(on_clouds) or item.type.endswith(at_clouds):
            assert clouds.urn in updated.needs(item.urn), item.urn


def test_only_what_the_stack_protects_keeps_destroy_from_starting(shape: str) -> None:
    graph = variants.recorded(shape, False)
    (cluster,) = graph.of_type("aws:eks/cluster:Cluster")
    wanted = {"aws:eks/cluster:Cluster", "aws:lb/loadBalancer:LoadBalancer"}
    protected = {item.type for item in graph if item.request.protect}
    assert protected == (wanted if cluster.inputs.get("deletionProtection") else set())
