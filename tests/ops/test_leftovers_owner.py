"""Whose a thing is by its name alone, and what RunPod's templates and workers tell."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.runpod.api import RunpodClient
from ops.leftovers import prices
from ops.leftovers.found import Found
from ops.leftovers.owner import Owner
from ops.leftovers.runpod import of_stack

OWNER = Owner("berth", "dev", ("prod", "dev-2"))
URL = "https://api.runpod.test/v2"


@pytest.mark.parametrize(
    "name",
    [
        "berth-dev",
        "berth-dev-node",
        "/aws/eks/berth-dev-cluster-0a1b2c3/cluster",
        "/aws/codebuild/berth-dev-weights",
        "/berth/dev/image/HF_TOKEN",
        "eks-berth-dev-gpu-0a1b2c3-5cf8f730",
        "eks-cluster-sg-berth-dev-cluster-0a1b2c3-1",
        "Secrets of the cluster of berth-dev",
        "ELB app/berth-dev-lb-0a1b2c3/50dc6c495c0c9188",
    ],
)
def test_a_name_that_the_stack_gives_is_the_stacks(name: str) -> None:
    assert OWNER.names(name)


@pytest.mark.parametrize(
    "name",
    ["berth-dev-2", "berth-dev-2-node", "my-berth-dev", "berth-developer", "/berth/dev-2/image/HF_TOKEN", ""],
)
def test_a_name_of_another_stack_or_of_somebody_else_is_not(name: str) -> None:
    assert not OWNER.names(name)


def test_tags_say_more_than_a_name() -> None:
    tags = {"project": "berth", "stack": "prod"}
    assert OWNER.why(Found("log group", "berth-dev", "arn", "", tags=tags), frozenset()) is None
    assert OWNER.why(Found("log group", "berth-dev", "arn", ""), frozenset()) == "its name: berth-dev"


def _runpod(**lists: list[dict[str, Any]]) -> RunpodClient:
    """Return a client of a RunPod that has what the lists say, each under its path's last part."""

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        keys = {"serverless": "endpoints", "network-volumes": "networkVolumes"}
        key = keys.get(name, name)
        return httpx.Response(200, json={key: lists.get(key, [])})

    return RunpodClient(URL, "rpa_key", transport=httpx.MockTransport(answer))


def test_a_template_is_known_by_its_mark_or_its_name() -> None:
    templates = [
        {"id": "t1", "name": "by-hand", "env": {"BERTH_RESOURCE": "berth/dev/runpod/0123"}},
        {"id": "t2", "name": "berth-dev", "env": {}},
        {"id": "t3", "name": "berth-dev", "env": {"BERTH_RESOURCE": "berth/prod/runpod/0123"}},
        {"id": "t4", "name": "pytorch", "env": {}},
    ]
    found, unseen = of_stack(_runpod(templates=templates), URL, OWNER)
    assert unseen == []
    assert [(item.id, item.kind) for item, _ in found] == [
        ("t1", "RunPod template"),
        ("t2", "RunPod template"),
    ]
    assert found[0][0].remove.endswith(f"-X DELETE {URL}/templates/t1")


def test_an_endpoint_costs_what_its_workers_cost() -> None:
    client = _runpod(
        endpoints=[{"id": "e1", "name": "berth-dev", "env": {}}],
        workers=[{"gpuTypeId": "NVIDIA L4", "gpuCount": 2}, {"gpuTypeId": None, "gpuCount": 1}],
        gpus=[{"id": "NVIDIA L4", "price": {"serverless": 0.684}}],
    )
    [(endpoint, _)], _ = of_stack(client, URL, OWNER)
    assert endpoint.hourly_usd == pytest.approx(2 * 0.684)


@pytest.mark.parametrize(
    ("volume", "monthly_usd"),
    [
        ({"type": "gp3", "gib": 100, "iops": 3000, "throughput": 125}, 8.0),
        ({"type": "gp3", "gib": 100, "iops": 4000, "throughput": 1000}, 8.0 + 5.0 + 35.0),
        ({"type": "io2", "gib": 10, "iops": 100, "throughput": None}, 1.25 + 6.5),
    ],
)
def test_a_volume_costs_by_size_and_speed(volume: dict[str, Any], monthly_usd: float) -> None:
    assert prices.volume(volume) == pytest.approx(monthly_usd / 730)


def test_a_volume_of_a_kind_without_a_price_here_has_none() -> None:
    assert prices.volume({"type": "standard", "gib": 10}) is None
