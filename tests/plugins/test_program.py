"""The project's own program, for every stack file: each resource passes the check of its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.engine.values import Secret
from tests.infra import graph
from tests.plugins.driver import Refused

if TYPE_CHECKING:
    from tests.plugins.driver import Plugin

# Charts are for clusters that can have them, which the sandbox's cannot.
RELEASE = "kubernetes:helm.sh/v3:Release"


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


@pytest.mark.parametrize("stack", [*graph.ENVIRONMENTS, "custom-server"])
def test_every_resource_is_taken(aws: Plugin, kubernetes: Plugin, stack: str) -> None:
    refused, checked = {}, set()
    for resource in graph.run(stack, preview=False):
        inputs = plain(resource.inputs)
        if resource.type == RELEASE:
            with pytest.raises(Refused, match="leave charts out here"):
                kubernetes.check(resource.type, resource.name, inputs)
            continue
        for plugin in (aws, kubernetes):
            if resource.type.startswith(f"{plugin.package}:"):
                refused[resource.urn] = plugin.check(resource.type, resource.name, inputs)[1]
                checked.add(plugin.package)
            elif resource.type == f"pulumi:providers:{plugin.package}":
                refused[resource.urn] = plugin.check_config(inputs)
    assert {urn: reasons for urn, reasons in refused.items() if reasons} == {}
    assert "aws" in checked
