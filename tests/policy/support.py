"""Runs the pack's policies over resources, as the engine would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi_policy import (
    PolicyCustomTimeouts,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from infra.policy.pack import POLICIES
from tests.infra.graph import Secret

if TYPE_CHECKING:
    from tests.infra.graph import Graph

_OPTIONS = PolicyResourceOptions(
    protect=False,
    ignore_changes=[],
    delete_before_replace=None,
    aliases=[],
    custom_timeouts=PolicyCustomTimeouts(0, 0, 0),
    additional_secret_outputs=[],
)


@dataclass
class Given:
    """One resource for the policies.

    Attributes:
        type: its type.
        name: its logical name.
        props: its properties.
        refers: property -> the names of the resources that it comes from.
    """

    type: str
    name: str
    props: dict[str, Any]
    refers: dict[str, list[str]] = field(default_factory=dict)


def urn(stack: str, type_: str, name: str) -> str:
    return f"urn:pulumi:{stack}::berth::{type_}::{name}"


def violations(resources: list[Given], stack: str = "dev") -> list[tuple[str, str]]:
    """Return the name of each policy that is violated with what it says."""
    found: list[tuple[str, str]] = []
    made = {
        item.name: PolicyResource(
            item.type, item.props, urn(stack, item.type, item.name), item.name, _OPTIONS, None, None, [], {}
        )
        for item in resources
    }
    for item in resources:
        made[item.name].property_dependencies = {
            key: [made[name] for name in names] for key, names in item.refers.items()
        }
    for policy in POLICIES:

        def report(message: str, _urn: str | None = None, name: str = policy.name) -> None:
            found.append((name, message))

        if isinstance(policy, StackValidationPolicy):
            policy.validate(StackValidationArgs(list(made.values())), report)
        elif isinstance(policy, ResourceValidationPolicy):
            for one in made.values():
                policy.validate(
                    ResourceValidationArgs(one.resource_type, one.props, one.urn, one.name, _OPTIONS, None),
                    report,
                )
    return found


def of_graph(graph: Graph) -> list[Given]:
    """Return the resources of a recorded graph; secrets in the clear, as the engine passes them on."""
    return [
        Given(
            item.type,
            item.urn,
            _plain(item.inputs),
            {key: list(value.urns) for key, value in item.request.propertyDependencies.items()},
        )
        for item in graph
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
