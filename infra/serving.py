"""The shared definition: settings -> what `vllm serve` gets on every platform, and the budgets around it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings, Task

PORT = 8000
HEALTH_PORT = 8001
HEALTH_PATH = "/health"
"""vLLM's own health path: no connection until the model is loaded, then 200, and 503 once the engine died."""

PLATFORM_HEALTH_PATH = "/ping"
"""Where the image answers on its health port: 204 while the model loads, 200 then."""

# vLLM's 5 s are less than a load balancer keeps an idle connection: it would send a request into one that the
# server just closed, and answer 502. The server is to be the one that waits longer.
_KEEP_ALIVE_SECONDS = 75
_KEEP_ALIVE_MARGIN_SECONDS = 15
_SHM_GIB = 2  # the container default of 64 MiB is too little for NCCL and the engine's messages
_SHM_GIB_PARALLEL = 16

# vLLM takes no `--task`: pooling models are a runner and a conversion.
_TASK_ARGUMENTS: dict[Task, tuple[str, ...]] = {
    "generate": (),
    "transcribe": (),
    "embed": ("--runner", "pooling", "--convert", "embed"),
    "score": ("--runner", "pooling", "--convert", "classify"),
    "classify": ("--runner", "pooling", "--convert", "classify"),
}

# What a task needs of vLLM's routes. Its API key guards what begins with /v1 (vLLM 0.32.0,
# entrypoints/serve/middleware/authenticate.py); of the rest only what is named here is ever let through.
_TASK_ROUTES: dict[Task, tuple[str, ...]] = {
    "generate": ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    "transcribe": ("/v1/audio/transcriptions", "/v1/audio/translations"),
    "embed": ("/v1/embeddings",),
    "score": ("/v1/score", "/v1/rerank"),
    "classify": ("/classify",),
}
_COMMON_ROUTES = ("/v1/models", HEALTH_PATH)


@dataclass(frozen=True)
class ServingSpec:
    """One server of one model, the same on every platform.

    Attributes:
        served_name: its name in requests.
        args: the arguments of `vllm serve`, the model first.
        environment: the container's variables, without secrets.
        port: where the server listens.
        health_port: where the image answers for platforms that ask while the model loads.
        health_path: the server's health path on `port`.
        platform_health_path: the image's health path on `health_port`.
        routes: the paths that may be reached from outside.
        gpu_count: GPUs of one replica.
        shm_gib: shared memory of one replica, in GiB.
        startup_timeout_seconds: from the start of the container to its first 200.
        pre_stop_seconds: how long a server that is to stop still takes requests, while its address is
            taken out of use everywhere.
        shutdown_timeout_seconds: how long it then finishes what it has.
        termination_grace_seconds: when the platform kills it: the whole of `serving.drain_seconds`.
    """

    served_name: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    health_port: int
    health_path: str
    platform_health_path: str
    routes: tuple[str, ...]
    gpu_count: int
    shm_gib: int
    startup_timeout_seconds: int
    pre_stop_seconds: int
    shutdown_timeout_seconds: int
    termination_grace_seconds: int


def spec(settings: Settings) -> ServingSpec:
    """Return what the settings ask `vllm serve` for."""
    model, serving = settings.model, settings.serving
    pre_stop, shutdown = _drain(serving.drain_seconds)
    return ServingSpec(
        served_name=settings.served_name,
        args=_arguments(settings, shutdown),
        environment=MappingProxyType(
            {
                "PORT": str(PORT),
                "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(_keep_alive_seconds(settings)),
                "VLLM_ENGINE_READY_TIMEOUT_S": str(serving.startup_timeout_seconds),
                **dict(sorted(serving.environment.items())),
            }
        ),
        port=PORT,
        health_port=HEALTH_PORT,
        health_path=HEALTH_PATH,
        platform_health_path=PLATFORM_HEALTH_PATH,
        routes=_TASK_ROUTES[model.task] + _COMMON_ROUTES,
        gpu_count=serving.tensor_parallel_size,
        shm_gib=_SHM_GIB if serving.tensor_parallel_size == 1 else _SHM_GIB_PARALLEL,
        startup_timeout_seconds=serving.startup_timeout_seconds,
        pre_stop_seconds=pre_stop,
        shutdown_timeout_seconds=shutdown,
        termination_grace_seconds=serving.drain_seconds,
    )


def _keep_alive_seconds(settings: Settings) -> int:
    if "eks" not in settings.targets:
        return _KEEP_ALIVE_SECONDS
    idle_seconds = settings.require_eks().load_balancer.idle_timeout_seconds
    return max(_KEEP_ALIVE_SECONDS, idle_seconds + _KEEP_ALIVE_MARGIN_SECONDS)


def _drain(budget_seconds: int) -> tuple[int, int]:
    """Split the drain budget: an eighth before the notice and after the end, the rest for requests.

    120 s are 15 + 90 + 15.
    """
    margin = budget_seconds // 8
    return margin, budget_seconds - 2 * margin


def _arguments(settings: Settings, shutdown_timeout_seconds: int) -> tuple[str, ...]:
    model, serving = settings.model, settings.serving
    options: dict[str, object] = {
        "--revision": model.revision,
        "--tokenizer-revision": model.revision,
        "--served-model-name": settings.served_name,
        "--max-model-len": model.max_model_len,
        "--dtype": model.dtype,
        "--quantization": model.quantization,
        "--gpu-memory-utilization": serving.gpu_memory_utilization,
        "--tensor-parallel-size": serving.tensor_parallel_size,
        "--max-num-seqs": serving.max_num_seqs,
        "--max-num-batched-tokens": serving.max_num_batched_tokens,
        "--max-num-queued-reqs": serving.max_queued_requests,
        "--shutdown-timeout": shutdown_timeout_seconds,
        "--disable-access-log-for-endpoints": "/health,/metrics,/ping",
    }
    flags = {
        "--enable-prefix-caching": serving.enable_prefix_caching,
        "--no-enable-prefix-caching": not serving.enable_prefix_caching,
        "--trust-remote-code": model.trust_remote_code,
        "--enforce-eager": serving.enforce_eager,
    }
    return (
        model.name,
        *_TASK_ARGUMENTS[model.task],
        *(text for name, value in options.items() if value is not None for text in (name, str(value))),
        *(name for name, is_set in flags.items() if is_set),
        *serving.extra_args,
    )
