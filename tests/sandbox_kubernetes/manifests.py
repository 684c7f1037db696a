"""Turns what the program registers of Kubernetes into manifests, as its provider sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.infra.graph import Secret

if TYPE_CHECKING:
    from tests.infra.graph import Graph

# Kinds that the API server has only after a chart was installed, and the chart itself.
_OF_CHARTS = ("kubernetes:helm.sh", "kubernetes:keda.sh", "kubernetes:monitoring.coreos.com")


def manifests(graph: Graph) -> list[dict[str, Any]]:
    """Return every object that an API server without charts knows."""
    return [
        _value(item.inputs)
        for item in graph
        if item.type.startswith("kubernetes:") and not item.type.startswith(_OF_CHARTS)
    ]


def _value(value: Any) -> Any:
    """Return a value as JSON has it: the wire knows no whole numbers, and no secrets."""
    if isinstance(value, Secret):
        return _value(value.value)
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
