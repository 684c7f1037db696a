"""A real API server accepts every Kubernetes object that the program makes, for every stack and variant."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.infra import variants
from tests.infra.graph import ENVIRONMENTS
from tests.sandbox_kubernetes.manifests import manifests

if TYPE_CHECKING:
    from tests.sandbox_kubernetes.conftest import Cluster


def _dry_run(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    return cluster.kubectl(
        # Strict: a field that the kind does not have is an error, where the server would drop it.
        *("apply", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(objects),
        check=False,
    )


def _objects(cluster: Cluster, shape: str) -> list[dict[str, Any]]:
    """Return a shape's objects, their namespaces made: a dry run makes none for those in them."""
    objects = manifests(variants.recorded(shape, False))
    namespaces = [item for item in objects if item["kind"] == "Namespace"]
    missing = [item for item in namespaces if item["metadata"]["name"] not in _namespaces(cluster)]
    if missing:
        cluster.apply(*missing)
    return [item for item in objects if item["kind"] != "Namespace"]


def _namespaces(cluster: Cluster) -> set[str]:
    found = json.loads(cluster.kubectl("get", "namespaces", "-o", "json"))
    return {item["metadata"]["name"] for item in found["items"]}


@pytest.mark.parametrize("shape", [*ENVIRONMENTS, "text-to-speech", *variants.VARIANTS])
def test_every_object_is_accepted(cluster: Cluster, shape: str) -> None:
    objects = _objects(cluster, shape)
    assert {"Deployment", "Service", "Secret", "NetworkPolicy"} <= {item["kind"] for item in objects}
    said = _dry_run(cluster, objects)
    accepted = [line for line in said.splitlines() if line.endswith("(server dry run)")]
    assert len(accepted) == len(objects), said


@pytest.mark.parametrize("wrong", ["unknown field", "wrong value"])
def test_what_the_api_refuses_is_noticed(cluster: Cluster, wrong: str) -> None:
    objects = copy.deepcopy(_objects(cluster, "staging"))
    (deployment,) = [
        item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == "model"
    ]
    if wrong == "unknown field":
        deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    else:
        deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Sometimes"
    said = _dry_run(cluster, [deployment])
    assert "(server dry run)" not in said
    assert "terminationGracePeriod" in said or "Sometimes" in said
