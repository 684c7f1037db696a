"""The shared definition: settings -> what `vllm serve` gets on every platform, and the budgets around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from infra.timing import Timing, timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings, Task

PORT = 8000
HEALTH_PORT = 8001
HEALTH_PATH = "/health"
"""vLLM's own health path: no connection until the model is loaded, then 200, and 503 once the engine died."""

PLATFORM_HEALTH_PATH = "/ping"
"""Where the image answers on its health port: 204 while the model loads, 200 then."""

IMAGE_HUB_CACHE = "/opt/berth/hub"
"""Where an image with weights keeps them: not below the caches, which a volume covers in the cluster."""

# vLLM's 5 s are less than a load balancer keeps an idle connection: it would send a request into one that the
# server just closed, and answer 502. The server is to be the one that waits longer.
_KEEP_ALIVE_SECONDS = 75
_KEEP_ALIVE_MARGIN_SECONDS = 15
_SSE_KEEP_ALIVE_SECONDS = 15  # a stream whose request waits in the queue is not taken for an idle connection
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
        model: its name on the hub.
        revision: its commit there.
        weights_in_image: whether the image brings the weights.
        options: the arguments of `vllm serve` that hold wherever the weights come from.
        environment: the container's variables, without secrets.
        port: where the server listens.
        health_port: where the image answers for platforms that ask while the model loads.
        health_path: the server's health path on `port`.
        platform_health_path: the image's health path on `health_port`.
        routes: the paths that may be reached from outside.
        gpu_count: GPUs of one replica.
        shm_gib: shared memory of one replica, in GiB.
        timing: every wait around its start and its end.
    """

    served_name: str
    model: str
    revision: str
    weights_in_image: bool
    options: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    health_port: int
    health_path: str
    platform_health_path: str
    routes: tuple[str, ...]
    gpu_count: int
    shm_gib: int
    timing: Timing

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments of `vllm serve`, the model first, as the hub or the image has it."""
        where = ("--revision", self.revision, "--tokenizer-revision", self.revision)
        return (self.model, *where, *self.options)

    @property
    def startup_timeout_seconds(self) -> int:
        """From the start of the container to its first 200."""
        return self.timing.startup_seconds

    def streamed_options(self, *, concurrency: int, memory_gib: int) -> tuple[str, ...]:
        """Return the options after an address in S3 in the model's place: the weights are streamed.

        The revision is part of that address. Source: vLLM 0.32.0, model_executor/model_loader/
        runai_streamer_loader.py.

        Args:
            concurrency: streams of each of the server's processes.
            memory_gib: the pod's memory; half of it is for tensors on their way to the GPUs.
        """
        loader: dict[str, object] = {
            "concurrency": concurrency,
            # Unsaid, the streamer takes up to 40 GB in each process.
            "memory_limit": memory_gib * 2**30 // 2 // self.gpu_count,
        }
        if self.gpu_count > 1 and "--enforce-eager" not in self.options:
            loader["distributed"] = True  # each process reads its share, once, and passes it on
        return (
            *self.options,
            "--load-format",
            "runai_streamer",
            "--model-loader-extra-config",
            json.dumps(loader, sort_keys=True),
        )


def shared_memory_gib(tensor_parallel_size: int) -> int:
    """Return the shared memory of one replica, in GiB, in which its processes pass each other tensors."""
    return _SHM_GIB if tensor_parallel_size == 1 else _SHM_GIB_PARALLEL


def spec(settings: Settings) -> ServingSpec:
    """Return what the settings ask `vllm serve` for."""
    model, serving = settings.model, settings.serving
    waits = timing(
        startup_seconds=serving.startup_timeout_seconds,
        drain_seconds=serving.drain_seconds,
        behind_load_balancer="eks" in settings.targets,
    )
    in_image = model.weights == "image"
    return ServingSpec(
        served_name=settings.served_name,
        model=model.name,
        revision=model.revision,
        weights_in_image=in_image,
        options=_options(settings, waits.shutdown_timeout_seconds),
        environment=MappingProxyType(
            {
                "PORT": str(PORT),
                "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(_keep_alive_seconds(settings)),
                "VLLM_ENGINE_READY_TIMEOUT_S": str(serving.startup_timeout_seconds),
                **({"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": IMAGE_HUB_CACHE} if in_image else {}),
                **dict(sorted(serving.environment.items())),
            }
        ),
        port=PORT,
        health_port=HEALTH_PORT,
        health_path=HEALTH_PATH,
        platform_health_path=PLATFORM_HEALTH_PATH,
        routes=_TASK_ROUTES[model.task] + _COMMON_ROUTES,
        gpu_count=serving.tensor_parallel_size,
        shm_gib=shared_memory_gib(serving.tensor_parallel_size),
        timing=waits,
    )


def _keep_alive_seconds(settings: Settings) -> int:
    if "eks" not in settings.targets:
        return _KEEP_ALIVE_SECONDS
    idle_seconds = settings.require_eks().load_balancer.idle_timeout_seconds
    return max(_KEEP_ALIVE_SECONDS, idle_seconds + _KEEP_ALIVE_MARGIN_SECONDS)


def _sse_keep_alive_seconds(settings: Settings) -> int:
    if "eks" not in settings.targets:
        return _SSE_KEEP_ALIVE_SECONDS
    idle_seconds = settings.require_eks().load_balancer.idle_timeout_seconds
    return max(1, min(_SSE_KEEP_ALIVE_SECONDS, idle_seconds // 2))


def _options(settings: Settings, shutdown_timeout_seconds: int) -> tuple[str, ...]:
    model, serving = settings.model, settings.serving
    options: dict[str, object] = {
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
        "--sse-keep-alive-interval": _sse_keep_alive_seconds(settings),
        "--disable-access-log-for-endpoints": "/health,/metrics,/ping",
    }
    flags = {
        "--enable-prefix-caching": serving.enable_prefix_caching,
        "--no-enable-prefix-caching": not serving.enable_prefix_caching,
        "--trust-remote-code": model.trust_remote_code,
        "--enforce-eager": serving.enforce_eager,
        # A variable that vLLM does not know ends the start, rather than having no effect.
        "--fail-on-environ-validation": True,
    }
    return (
        *_TASK_ARGUMENTS[model.task],
        *(text for name, value in options.items() if value is not None for text in (name, str(value))),
        *(name for name, is_set in flags.items() if is_set),
        *serving.extra_args,
    )
