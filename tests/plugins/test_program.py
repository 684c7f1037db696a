"""The project's own program, for every stack file: each resource passes the check of its provider."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.engine.values import Secret
from tests.infra import graph

if TYPE_CHECKING:
    from tests.plugins.driver import Plugin


@functools.cache
def program(stack: str) -> graph.Graph:
    return graph.run(stack, preview=False)


def plain(value: Any) -> Any:
    """Turn recorded values into the plugins' own."""
    match value:
        case graph.Secret():
            return Secret(plain(value.value))
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def refusals(plugin: Plugin, stack: str) -> dict[str, dict[str, str]]:
    found = {}
    for resource in program(stack):
        inputs = plain(resource.inputs)
        if resource.type.startswith(f"{plugin.package}:"):
            found[resource.urn] = plugin.check(resource.type, resource.name, inputs)[1]
        elif resource.type == f"pulumi:providers:{plugin.package}":
            found[resource.urn] = plugin.check_config(inputs)
    assert found
    return {urn: failures for urn, failures in found.items() if failures}


@pytest.mark.parametrize("stack", graph.STACKS)
def test_aws_takes_every_resource(aws: Plugin, stack: str) -> None:
    assert refusals(aws, stack) == {}


@pytest.mark.parametrize("stack", graph.STACKS)
def test_kubernetes_takes_every_resource(kubernetes: Plugin, stack: str) -> None:
    if not any(resource.type.startswith("kubernetes:") for resource in program(stack)):
        pytest.skip(f"the stack {stack} has nothing on Kubernetes")
    assert refusals(kubernetes, stack) == {}
