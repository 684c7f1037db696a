"""The shared definition: settings -> what the server gets on every platform, and the budgets around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from infra.timing import Timing, timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import ModelSettings, ServerSettings, Settings, Task

PORT = 8000
HEALTH_PORT = 8001
HEALTH_PATH = "/health"
"""vLLM's own health path: no connection until the model is loaded, then 200, and 503 once the engine died."""

PLATFORM_HEALTH_PATH = "/ping"
"""Where the image answers on its health port: 204 while the model loads, 200 then."""

IMAGE_CACHE_PATH = "/home/vllm/.cache"
"""Where our image keeps all caches and weights from the hub."""
_IMAGE_USER = 2000  # vLLM's image keeps its home writable for this user, in group 0

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
    "speak": (),
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
    # Of OpenAI's API, by another server: vLLM has no such route.
    "speak": ("/v1/audio/speech",),
}
_LARGEST_GRAPH = 512  # sequences; vLLM captures no larger ones by itself either
_NO_HOST = "none.invalid"  # of a domain that never resolves (RFC 6761)
_MODELS_ROUTE = "/v1/models"


@dataclass(frozen=True)
class ServingSpec:
    """One server of one model, the same on every platform.

    Attributes:
        served_name: its name in requests.
        model: its name on the hub.
        revision: its commit there.
        weights_in_image: whether the image brings the weights.
        command: what replaces the image's own entry point; empty for the image's own.
        source: the arguments that say which model is served; empty where `options` do.
        options: the arguments that hold wherever the weights come from.
        environment: the container's variables, without secrets.
        pod_environment: variables of a pod, which runs as another user than the image was made for.
        queue_environment: variables of the queue's door, where requests come in by one.
        api_key_variable: by which the server takes the key that it asks for; None if it asks for none.
        reaches_internet: whether it fetches anything from outside: weights, or images that prompts name.
        user_id: whom the container runs as, in group 0.
        data_path: the folder that it may write, for weights and caches.
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
    command: tuple[str, ...]
    source: tuple[str, ...]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    pod_environment: Mapping[str, str]
    queue_environment: Mapping[str, str]
    api_key_variable: str | None
    reaches_internet: bool
    user_id: int
    data_path: str
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
        """The server's arguments, the model first, as the hub or the image has it."""
        return (*self.source, *self.options)

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


def shared_memory_gib(gpu_count: int) -> int:
    """Return the shared memory of one replica, in GiB, in which its processes pass each other tensors."""
    return _SHM_GIB if gpu_count == 1 else _SHM_GIB_PARALLEL


def spec(settings: Settings) -> ServingSpec:
    """Return what the settings ask of the server: vLLM in our image, or the one of the section `server`."""
    waits = timing(
        startup_seconds=settings.serving.startup_timeout_seconds,
        drain_seconds=settings.serving.drain_seconds,
        behind_load_balancer="eks" in settings.targets,
    )
    if settings.server is not None:
        return _of_another_server(settings, settings.server, waits)
    model, serving = settings.model, settings.serving
    in_image = model.weights == "image"
    return ServingSpec(
        served_name=settings.served_name,
        model=model.name,
        revision=model.revision,
        weights_in_image=in_image,
        command=(),
        source=(model.name, "--revision", model.revision, "--tokenizer-revision", model.revision),
        options=_options(settings, waits.shutdown_timeout_seconds),
        environment=MappingProxyType(
            {
                "PORT": str(PORT),
                "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(_keep_alive_seconds(settings)),
                "VLLM_ENGINE_READY_TIMEOUT_S": str(serving.startup_timeout_seconds),
                # A host that is allowed could send vLLM on to one that is not.
                "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
                **({"BERTH_FAST_START": "1"} if serving.fast_start else {}),
                **({"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": IMAGE_HUB_CACHE} if in_image else {}),
                **(
                    {"VLLM_MAX_AUDIO_CLIP_FILESIZE_MB": str(serving.max_audio_mib)}
                    if serving.max_audio_mib
                    else {}
                ),
                **dict(sorted(serving.environment.items())),
            }
        ),
        pod_environment=MappingProxyType({}),  # the image sets its home itself
        queue_environment=MappingProxyType(
            {
                "BERTH_DOOR": "queue",
                "BERTH_TASK": model.task,
                **({"BERTH_QUERY_INSTRUCTION": model.query_instruction} if model.query_instruction else {}),
            }
        ),
        api_key_variable="VLLM_API_KEY",
        reaches_internet=not in_image or bool(model.allowed_media_hosts),
        user_id=_IMAGE_USER,
        data_path=IMAGE_CACHE_PATH,
        port=PORT,
        health_port=HEALTH_PORT,
        health_path=HEALTH_PATH,
        platform_health_path=PLATFORM_HEALTH_PATH,
        routes=(*_TASK_ROUTES[model.task], _MODELS_ROUTE, HEALTH_PATH),
        gpu_count=serving.tensor_parallel_size,
        shm_gib=shared_memory_gib(serving.tensor_parallel_size),
        timing=waits,
    )


def _of_another_server(settings: Settings, server: ServerSettings, waits: Timing) -> ServingSpec:
    routes = server.routes or _TASK_ROUTES[settings.model.task]
    return ServingSpec(
        served_name=settings.served_name,
        model=settings.model.name,
        revision=settings.model.revision,
        weights_in_image=False,
        command=server.command,
        source=(),
        options=server.args,
        environment=MappingProxyType(dict(sorted(settings.serving.environment.items()))),
        pod_environment=MappingProxyType(
            {"HOME": server.data_path, "HF_HOME": f"{server.data_path}/huggingface"}
        ),
        queue_environment=MappingProxyType({}),
        api_key_variable=server.api_key_variable,
        reaches_internet=True,
        user_id=server.user_id,
        data_path=server.data_path,
        port=server.port,
        health_port=server.port,
        health_path=server.health_path,
        platform_health_path=server.health_path,
        routes=tuple(dict.fromkeys((*routes, _MODELS_ROUTE, server.health_path))),
        gpu_count=server.gpu_count,
        shm_gib=shared_memory_gib(server.gpu_count),
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
        "--limit-mm-per-prompt": (
            json.dumps({"image": model.max_images_per_prompt}) if model.max_images_per_prompt else None
        ),
        "--pooler-config": _pooler(model),
        "--compilation-config": None if serving.compile else _not_compiled(serving.max_num_seqs),
    }
    flags = {
        # Not said where it is wanted: vLLM has it on by itself, but for models with nothing to cache, whose
        # start ends if they are told to (vLLM 0.32.0, v1/core/kv_cache_coordinator.py).
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
        # An empty list would let it fetch from every host, those of the cluster's own network included.
        "--allowed-media-domains",
        *(model.allowed_media_hosts or (_NO_HOST,)),
        *_adapters(settings),
        *serving.extra_args,
    )


def _not_compiled(max_num_seqs: int | None) -> str:
    """Return vLLM's configuration that leaves torch.compile out and captures few graphs, of decoding alone.

    A batch is padded to the next size, each twice the last, so that the largest is at least `max_num_seqs`.
    """
    largest = min(max_num_seqs or _LARGEST_GRAPH, _LARGEST_GRAPH)
    sizes = [2**power for power in range((largest - 1).bit_length() + 1)]
    return json.dumps({"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes})


def _pooler(model: ModelSettings) -> str | None:
    """Return vLLM's configuration of the pooler, in whose words a vector is normalized by an activation."""
    said = {"pooling_type": model.pooling.type, "use_activation": model.pooling.normalize}
    return (
        json.dumps({key: value for key, value in said.items() if value is not None})
        if any(value is not None for value in said.values())
        else None
    )


def _adapters(settings: Settings) -> tuple[str, ...]:
    """Return the arguments for adapters; the image's entrypoint fetches each at its commit.

    vLLM itself would load whatever commit the hub has at the time.
    """
    model = settings.model
    if not model.adapters:
        return ()
    modules = [
        {
            "name": name,
            "path": f"{adapter.name}@{adapter.revision}",
            "base_model_name": settings.served_name,
        }
        for name, adapter in model.adapters.items()
    ]
    return (
        "--enable-lora",
        "--max-loras",
        str(len(modules)),
        *(("--max-lora-rank", str(model.max_lora_rank)) if model.max_lora_rank else ()),
        "--lora-modules",
        *(json.dumps(module) for module in modules),
    )
