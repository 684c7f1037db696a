"""The contracts of every graph: every stack file and every variant keeps them, and a breach is noticed."""

from __future__ import annotations

import copy
import functools
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra import serving, settings
from tests.infra import contracts, variants
from tests.infra.contracts import CONTRACTS, UNKNOWN, Facts, in_the_clear
from tests.infra.graph import ROOT, STACKS, Graph, Recorded, configuration, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# 63 characters: the longest name that still fits into the labels of Kubernetes.
_LONG = "a-team-s-experiment-with-a-name-that-says-more-than-is-needed-x"


def facts(shape: str, preview: bool) -> Facts:
    stack = shape if shape in STACKS else variants.sections(shape)[0]
    owner = configuration(stack)["berth:aws"]["owner"]
    return Facts({"project": "berth", "stack": stack, "owner": owner}, preview)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
def test_every_stack_and_variant_keeps_the_contract(
    contract: Callable[[Graph, Facts], Iterator[str]], shape: str, preview: bool
) -> None:
    assert sorted(set(contract(variants.recorded(shape, preview), facts(shape, preview)))) == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_serves_the_same_on_both_clouds_on_the_routes_of_its_task(stack: str) -> None:
    spec = serving.spec(settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml"))
    graph = variants.recorded(stack, False)
    (container,) = graph.named("model-deployment").inputs["spec"]["template"]["spec"]["containers"]
    (endpoint,) = graph.of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert tuple(container["args"]) == tuple(shlex.split(endpoint.inputs["args"])) == spec.args
    rules = graph.of_type("aws:lb/listenerRule:ListenerRule")
    conditions = [condition for rule in rules for condition in rule.inputs["conditions"]]
    paths = [path for condition in conditions for path in condition["pathPattern"]["values"]]
    assert tuple(paths) == spec.routes


def _request(**changes: Any) -> Callable[[Recorded], Recorded]:
    def change(item: Recorded) -> Recorded:
        request: Any = copy.deepcopy(item.request)
        for key, value in changes.items():
            request.ClearField(key)
            if isinstance(value, list):
                getattr(request, key).extend(value)
            elif value is not None:
                setattr(request, key, value)
        return replace(item, request=request)

    return change


def _inputs(**changes: Any) -> Callable[[Recorded], Recorded]:
    return lambda item: replace(item, inputs={**item.inputs, **changes})


def _without_a_digest(item: Recorded) -> Recorded:
    inputs = copy.deepcopy(item.inputs)
    inputs["spec"]["template"]["spec"]["containers"][0]["image"] = "vllm:latest"
    return replace(item, inputs=inputs)


@pytest.mark.parametrize(
    ("contract", "type_", "change"),
    [
        (contracts.explicit_provider, "aws:eks/cluster:Cluster", lambda item: replace(item, provider="")),
        (contracts.parent, "aws:ec2/vpc:Vpc", lambda item: replace(item, parent="")),
        (contracts.owned, "pulumi:providers:aws", _inputs(defaultTags='{"tags": {"project": "berth"}}')),
        (contracts.owned, "aws:ec2/vpc:Vpc", _inputs(tags={"owner": "somebody"})),
        (contracts.owned, "aws:ec2/launchTemplate:LaunchTemplate", _inputs(tagSpecifications=[])),
        (contracts.owned, "kubernetes:core/v1:Secret", _inputs(metadata={"name": "model"})),
        (contracts.timeouts, "aws:eks/nodeGroup:NodeGroup", _request(customTimeouts=None)),
        (contracts.images, "kubernetes:apps/v1:Deployment", _without_a_digest),
        (contracts.images, "pulumi-python:dynamic/runpod:Endpoint", _inputs(image="vllm:latest")),
        (contracts.deleted_by_the_engine, "aws:s3/bucket:Bucket", _request(retainOnDelete=True)),
        (contracts.deleted_by_the_engine, "aws:ec2/vpc:Vpc", _request(deletedWith="urn:x")),
        (contracts.names, "aws:lb/loadBalancer:LoadBalancer", _inputs(name="x" * 33)),
        (contracts.names, "aws:s3/bucket:Bucket", _inputs(bucket="Upper")),
        (contracts.no_past, "aws:ec2/vpc:Vpc", _request(aliasURNs=["urn:x"])),
        (contracts.no_past, "aws:ec2/vpc:Vpc", _request(importId="vpc-1")),
        (contracts.no_past, "aws:eks/cluster:Cluster", _request(ignoreChanges=["version"])),
        (contracts.known, "aws:eks/cluster:Cluster", _inputs(name=UNKNOWN)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_breach_of_a_contract_is_noticed(
    contract: Callable[[Graph, Facts], Iterator[str]],
    type_: str,
    change: Callable[[Recorded], Recorded],
) -> None:
    whole = variants.recorded("staging", False)
    broken = Graph(dict(whole.resources), whole.outputs, dict(whole.completed))
    item = whole.of_type(type_)[0]
    broken.resources[item.urn] = change(item)
    assert list(contract(broken, facts("staging", False)))


def test_a_component_that_is_not_completed_is_noticed() -> None:
    whole = variants.recorded("staging", False)
    components = [item.urn for item in whole if item.type.startswith("berth:")]
    assert len(components) > 5
    for urn in components:
        completed = {key: value for key, value in whole.completed.items() if key != urn}
        graph = Graph(whole.resources, whole.outputs, completed)
        assert list(contracts.components_complete(graph, facts("staging", False)))


def test_a_type_that_no_table_knows_is_noticed() -> None:
    whole = variants.recorded("staging", False)
    item = replace(whole.of_type("aws:ec2/vpc:Vpc")[0], type="aws:ec2/eipAssociation:EipAssociation")
    graph = Graph({**whole.resources, item.urn: item}, whole.outputs, whole.completed)
    said = " ".join(
        [
            *contracts.owned(graph, facts("staging", False)),
            *contracts.timeouts(graph, facts("staging", False)),
        ]
    )
    assert "say whether it carries tags" in said
    assert "say whether it waits" in said


@pytest.mark.parametrize(
    ("shape", "preview"),
    [
        ("local", True),
        ("local", False),
        ("dev", False),
        (variants.EVERYTHING, True),
        (variants.EVERYTHING, False),
    ],
)
def test_nothing_in_the_clear_derives_from_a_secret(
    shape: str, preview: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that differ in their secrets alone show no difference: not the values, nor hashes of them."""
    stack, changes = (shape, {}) if shape in STACKS else variants.sections(shape)
    seen = []
    for number in ("one", "two"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{number}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"aws-{number}")
        # The stack `local` takes no secrets: it has its key generated.
        given = {} if stack == "local" else {"apiKey": f"sk-{number}", "hubToken": f"hf_{number}"}
        graph = run(stack, preview=preview, generated_key=f"sk-made-{number}", **changes, **given)
        seen.append(in_the_clear(graph))
    one, two = seen
    assert [place for place in one if one[place] != two.get(place)] == []
    assert set(one) == set(two)


def test_a_generated_key_is_as_secret_as_a_given_one() -> None:
    one, two = (
        in_the_clear(run("staging", preview=False, generated_key=f"sk-made-{number}")) for number in "12"
    )
    assert one == two


def test_what_is_shown_of_a_secret_would_be_noticed() -> None:
    """The comparison sees a difference where there is one: the owner is no secret, and is in every tag."""
    aws = configuration("staging")["berth:aws"]
    one, two = (
        in_the_clear(run("staging", preview=False, aws={**aws, "owner": owner})) for owner in ("me", "you")
    )
    assert [place for place in one if one[place] != two[place]]


def test_the_same_settings_give_the_same_graph() -> None:
    """Nothing depends on the order of a set or on the clock: a second `up` has nothing to do."""
    first, second = (run("prod", preview=False) for _ in range(2))
    assert {urn: item.inputs for urn, item in first.resources.items()} == {
        urn: item.inputs for urn, item in second.resources.items()
    }
    assert {urn: item.edges for urn, item in first.resources.items()} == {
        urn: item.edges for urn, item in second.resources.items()
    }


@functools.cache
def _long_named(end: str) -> Graph:
    stack, changes = variants.sections(variants.EVERYTHING)
    return run(stack, preview=False, called=f"{_LONG[:-1]}{end}", **changes)


def test_names_of_a_stack_with_a_long_name_fit_too() -> None:
    assert sorted(contracts.names(_long_named("x"), facts(variants.EVERYTHING, False))) == []


def _names_on_the_cloud(graph: Graph) -> dict[tuple[str, str], str]:
    return {
        (item.type, item.name): item.inputs[contracts.NAMES[item.type][0]]
        for item in contracts.cloud_resources(graph)
        if contracts.NAMES.get(item.type, ("",))[0] in item.inputs
        # The name of a role's policy is unique in its role.
        and item.type != "aws:iam/rolePolicy:RolePolicy"
    }


def test_two_stacks_with_long_names_share_no_name() -> None:
    one, other = (_names_on_the_cloud(_long_named(end)) for end in "xy")
    assert len(one) > 20
    assert set(one) == set(other)
    assert [place for place in one if one[place] == other[place]] == []
