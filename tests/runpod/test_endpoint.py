"""The component: what it declares, in which order, and with which secrets."""

from __future__ import annotations

import asyncio
import shlex
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pulumi
import pytest
from pulumi.runtime import rpc, settings

from infra.runpod.body import problems
from infra.runpod.endpoint import RunpodEndpoint
from infra.settings import RunpodSettings
from tests.runpod.conftest import IMAGE, REPOSITORY_ARN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.serving import ServingSpec

SERVING = cast(
    "ServingSpec",
    SimpleNamespace(
        args=("Qwen/Qwen2.5-0.5B", "--served-model-name", "two words"),
        environment={"PORT": "8000", "VLLM_NO_USAGE_STATS": "1"},
        queue_environment={"BERTH_DOOR": "queue", "BERTH_TASK": "generate"},
        gpu_count=1,
        port=8000,
        health_port=8001,
        platform_health_path="/ping",
        startup_timeout_seconds=1800,
    ),
)
SETTINGS = RunpodSettings(
    gpu_pools=("AMPERE_24", "ADA_24"), excluded_gpu_types=("NVIDIA L4",), request_count=8, workers_max=2
)


class _Recorder(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.registered: list[pulumi.runtime.MockResourceArgs] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.registered.append(args)
        outputs = dict(args.inputs)
        if args.typ.endswith(":Marker"):
            outputs["value"] = f"{args.inputs['owner']}/unique"
        if args.typ.endswith("runpod:Endpoint"):
            outputs |= {"url": "https://abc.api.runpod.ai", "health": "https://abc.api.runpod.ai/ping"}
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(args.token)


@pytest.fixture
def recorder() -> Iterator[_Recorder]:
    made = _Recorder()
    # A loop of its own: another test may have closed this thread's.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_mocks(made, project="berth", stack="test")
    yield made
    loop.close()
    settings.reset_options()


def _declare(**options: Any) -> RunpodEndpoint:
    return RunpodEndpoint(
        "runpod",
        settings=SETTINGS,
        serving=SERVING,
        image=IMAGE,
        api_url="https://api.runpod.io/v2",
        **options,
    )


def _resolve(*outputs: pulumi.Output[Any]) -> list[Any]:
    def wait() -> pulumi.Output[list[Any]]:
        return pulumi.Output.all(*outputs).apply(keep)

    def keep(values: list[Any]) -> list[Any]:
        seen.extend(values)
        return values

    seen: list[Any] = []
    pulumi.runtime.test(wait)()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    return seen


def test_the_endpoint_is_the_shared_definition(recorder: _Recorder) -> None:
    made = _declare()
    outputs = _resolve(made.endpoint_id, made.base_url, made.health_url)
    assert outputs == [
        "runpod-endpoint-id",
        "https://abc.api.runpod.ai",
        "https://abc.api.runpod.ai/ping",
    ]
    assert [args.typ for args in recorder.registered] == [
        "berth:runpod:Endpoint",
        "pulumi-python:dynamic/runpod:Marker",
        "pulumi-python:dynamic/runpod:Endpoint",
    ]
    inputs = dict(recorder.registered[-1].inputs)
    assert inputs.pop("__provider")
    assert problems(inputs) == []
    assert shlex.split(inputs.pop("args")) == list(SERVING.args)
    assert inputs == {
        "apiUrl": "https://api.runpod.io/v2",
        "marker": "berth/test/runpod/unique",
        "name": "berth-test",
        "type": "LOAD_BALANCER",
        "image": IMAGE,
        "disk": 60,
        "env": {
            "PORT": "8000",
            "PORT_HEALTH": "8001",
            "HEALTH_CHECK_PATH": "/ping",
            "VLLM_NO_USAGE_STATS": "1",
            "RUNPOD_INIT_TIMEOUT": "1800",
        },
        "ports": ["8000/http", "8001/http"],
        "gpu": {
            "pools": ["AMPERE_24", "ADA_24"],
            "excludedTypes": ["NVIDIA L4"],
            "count": 1,
            "minCudaVersion": "13.0",
        },
        "workers": {"min": 0, "max": 2, "idleTimeout": 60},
        "scaling": {"type": "REQUEST_COUNT", "requestCount": 8},
        "dataCenterIds": [],
        "networkVolumes": [],
        "flashboot": "FLASHBOOT",
        "timeout": 330_000,
    }


def test_the_delegation_comes_before_the_endpoint(recorder: _Recorder) -> None:
    made = _declare(repository_arn=REPOSITORY_ARN)
    _resolve(made.endpoint_id)
    kinds = [args.typ.rpartition(":")[2] for args in recorder.registered]
    assert kinds.index("EcrDelegation") < kinds.index("Endpoint", 1)
    delegation = recorder.registered[kinds.index("EcrDelegation")].inputs
    assert (delegation["resource"], delegation["marker"]) == (REPOSITORY_ARN, "berth/test/runpod/unique")


def test_secrets_reach_the_environment(recorder: _Recorder) -> None:
    made = _declare(secret_environment={"HF_TOKEN": pulumi.Output.secret("hf_secret")})
    _resolve(made.endpoint_id)
    env = recorder.registered[-1].inputs["env"]
    assert rpc.is_rpc_secret(env)
    assert rpc.unwrap_rpc_secret(env)["HF_TOKEN"] == "hf_secret"
