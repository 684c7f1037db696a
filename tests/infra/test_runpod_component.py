"""The RunPod side of the graph: both types of endpoints, volumes, credentials, and the stack's outputs."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from infra.runpod.body import problems
from tests.infra.contracts import CONTRACTS, Facts, in_the_clear
from tests.infra.graph import Graph, Recorded, Secret, configuration, run

_DYNAMIC = "pulumi-python:dynamic/runpod:"
PREBUILT = {"builder": "prebuilt", "reference": "registry.example.com/team/vllm@sha256:" + "b" * 64}
VOLUMES = [
    {"data_center_id": "EU-RO-1", "size_gib": 50},
    {"data_center_id": "US-KS-2", "size_gib": 80, "type": "HIGH_PERFORMANCE"},
]


def _run(*, preview: bool = False, task: str = "generate", runpod: dict[str, Any], **more: Any) -> Graph:
    config = configuration("dev")
    section = {**config["berth:runpod"], **runpod}
    return run(
        "dev",
        preview=preview,
        targets=["runpod"],
        model={**config["berth:model"], "task": task},
        runpod={key: value for key, value in section.items() if value is not None},
        **more,
    )


def _queue(**more: Any) -> dict[str, Any]:
    return {"endpoint_type": "QUEUE", "request_count": None, "queue_delay_seconds": 4, **more}


def _endpoint(graph: Graph) -> Recorded:
    (endpoint,) = graph.of_type(f"{_DYNAMIC}Endpoint")
    assert problems(endpoint.inputs) == []
    return endpoint


def test_a_load_balancer_is_the_default() -> None:
    graph = _run(runpod={})
    endpoint = _endpoint(graph)
    assert endpoint.inputs["type"] == "LOAD_BALANCER"
    assert endpoint.inputs["ports"] == ["8000/http", "8001/http"]
    assert not {"BERTH_DOOR", "BERTH_TASK", "HF_HOME"} & set(endpoint.inputs["env"])
    assert endpoint.inputs["gpu"]["minCudaVersion"] == "13.0"
    assert graph.outputs["endpoints"]["runpod"] == {
        "url": "https://abc.api.runpod.example/v1",
        "health": "https://abc.api.runpod.example/ping",
        "id": "runpod-endpoint-id",
        "type": "LOAD_BALANCER",
        "console": "https://console.runpod.io/serverless/user/endpoint/runpod-endpoint-id",
    }


@pytest.mark.parametrize("task", ["generate", "embed", "classify"])
def test_a_queue_has_the_same_server_behind_another_door(task: str) -> None:
    balancer, queue = _run(task=task, runpod={}), _run(task=task, runpod=_queue())
    endpoint = _endpoint(queue)
    assert shlex.split(endpoint.inputs["args"]) == shlex.split(_endpoint(balancer).inputs["args"])
    assert endpoint.inputs["type"] == "QUEUE"
    assert endpoint.inputs["ports"] == []
    env = endpoint.inputs["env"]
    assert (env["BERTH_DOOR"], env["BERTH_TASK"]) == ("queue", task)
    assert env["RUNPOD_INIT_TIMEOUT"] == "1800"
    assert not {"PORT", "PORT_HEALTH", "HEALTH_CHECK_PATH"} & set(env)
    assert endpoint.inputs["workers"] == {"min": 0, "max": 1, "idleTimeout": 120}
    assert endpoint.inputs["scaling"] == {"type": "QUEUE_DELAY", "queueDelay": 4}
    told = queue.outputs["endpoints"]["runpod"]
    assert (told["type"], told["jobs"]) == ("QUEUE", "https://abc.api.runpod.example")
    assert told["url"] == "https://abc.api.runpod.example/openai/v1"


def test_a_queue_that_scales_by_requests_has_no_idle_timeout() -> None:
    section = _queue(queue_delay_seconds=None, request_count=4, idle_timeout_seconds=None)
    endpoint = _endpoint(_run(runpod=section))
    assert endpoint.inputs["workers"] == {"min": 0, "max": 1}
    assert endpoint.inputs["scaling"] == {"type": "REQUEST_COUNT", "requestCount": 4}


def test_exact_cuda_versions_take_the_place_of_the_least() -> None:
    gpu = _endpoint(_run(runpod={"allowed_cuda_versions": ["13.0", "13.1"]})).inputs["gpu"]
    assert gpu["allowedCudaVersions"] == ["13.0", "13.1"]
    assert "minCudaVersion" not in gpu


@pytest.mark.parametrize("preview", [True, False])
def test_weights_and_compiled_code_are_kept_on_volumes(preview: bool) -> None:
    graph = _run(preview=preview, runpod={"volumes": VOLUMES}, image=PREBUILT)
    volumes = sorted(graph.of_type(f"{_DYNAMIC}NetworkVolume"), key=lambda item: item.name)
    assert [
        (item.name, item.inputs["dataCenter"], item.inputs["size"], item.inputs["type"]) for item in volumes
    ] == [
        ("runpod-volume-eu-ro-1", "EU-RO-1", 50, "STANDARD"),
        ("runpod-volume-us-ks-2", "US-KS-2", 80, "HIGH_PERFORMANCE"),
    ]
    endpoint = _endpoint(graph)
    assert {item.urn for item in volumes} <= endpoint.edges
    assert endpoint.inputs["dataCenterIds"] == ["EU-RO-1", "US-KS-2"]
    env = endpoint.inputs["env"]
    assert env["HF_HOME"] == "/runpod-volume/huggingface"
    names = ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE")
    for name in names:
        assert env[name].startswith("/runpod-volume/compiled/")
    if not preview:
        assert endpoint.inputs["networkVolumes"] == [f"{item.name}-id" for item in volumes]


def test_what_one_image_or_setting_compiled_no_other_loads() -> None:
    def folder(image: str, **runpod: Any) -> str:
        reference = {**PREBUILT, "reference": "registry.example.com/team/vllm@sha256:" + image * 64}
        graph = _run(runpod={"volumes": VOLUMES, **runpod}, image=reference)
        found: str = _endpoint(graph).inputs["env"]["VLLM_CACHE_ROOT"]
        return found

    assert folder("b") == folder("b", workers_max=2)
    assert folder("b") != folder("c")


def test_a_credential_takes_the_place_of_the_delegation_and_stays_secret() -> None:
    graph = _run(runpod={"registry_username": "me"}, image=PREBUILT, registryPassword="the-password")
    (credential,) = graph.of_type(f"{_DYNAMIC}RegistryCredential")
    assert credential.inputs["username"] == "me"
    assert credential.inputs["password"] == Secret("the-password")
    assert not [item for item in graph if item.type == f"{_DYNAMIC}EcrDelegation"]
    endpoint = _endpoint(graph)
    assert endpoint.inputs["registry"] == "runpod-registry-credential-id"
    assert credential.urn in endpoint.edges
    for place, shown in in_the_clear(graph).items():
        assert "the-password" not in json.dumps(shown), place


def test_an_image_that_is_built_here_is_pulled_by_delegation() -> None:
    graph = _run(runpod={})
    (delegation,) = graph.of_type(f"{_DYNAMIC}EcrDelegation")
    assert delegation.urn in _endpoint(graph).edges
    assert _endpoint(graph).inputs.get("registry") is None


@pytest.mark.parametrize("preview", [True, False])
def test_all_that_a_stack_may_have_on_runpod_keeps_the_contracts(preview: bool) -> None:
    section = {**_queue(), "volumes": VOLUMES, "registry_username": "me"}
    graph = _run(preview=preview, runpod=section, image=PREBUILT, registryPassword="the-password")
    facts = Facts({"project": "berth", "stack": "dev", "owner": "ml-platform"}, preview)
    assert [breach for contract in CONTRACTS for breach in contract(graph, facts)] == []
