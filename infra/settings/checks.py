"""What must hold between settings that are each valid alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from infra.settings import eks_checks, gpu_checks, server_checks
from infra.settings.vocabulary import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings.eks import EksSettings
    from infra.settings.model import ModelSettings
    from infra.settings.runpod import RunpodSettings
    from infra.settings.sections import ImageSettings, ServingSettings, Target
    from infra.settings.server import ServerSettings

# Arguments of vLLM that a setting, or the definition itself, decides: said twice, one would win in silence.
OWNED_ARGUMENTS = {
    "--model": "model.name",
    "--revision": "model.revision",
    "--tokenizer-revision": "model.revision",
    "--served-model-name": "model.served_name",
    "--runner": "model.task",
    "--convert": "model.task",
    "--max-model-len": "model.max_model_len",
    "--dtype": "model.dtype",
    "--quantization": "model.quantization",
    "-q": "model.quantization",
    "--trust-remote-code": "model.trust_remote_code",
    "--enable-lora": "model.adapters",
    "--lora-modules": "model.adapters",
    "--max-loras": "model.adapters",
    "--max-lora-rank": "model.max_lora_rank",
    "--pooler-config": "model.pooling",
    "--allowed-media-domains": "model.allowed_media_hosts",
    "--limit-mm-per-prompt": "model.max_images_per_prompt",
    "--gpu-memory-utilization": "serving.gpu_memory_utilization",
    "--tensor-parallel-size": "serving.tensor_parallel_size",
    "-tp": "serving.tensor_parallel_size",
    "--max-num-seqs": "serving.max_num_seqs",
    "--max-num-batched-tokens": "serving.max_num_batched_tokens",
    "--max-num-queued-reqs": "serving.max_queued_requests",
    "--enable-prefix-caching": "serving.enable_prefix_caching",
    "--no-enable-prefix-caching": "serving.enable_prefix_caching",
    "--enforce-eager": "serving.enforce_eager",
    "--shutdown-timeout": "serving.drain_seconds",
    "--api-key": "the secret apiKey",
    "--hf-token": "the secret hubToken",
    "--host": "the image",
    "--port": "the image",
    "--disable-access-log-for-endpoints": "the shared definition",
    "--sse-keep-alive-interval": "the shared definition",
    "--fail-on-environ-validation": "the shared definition",
    "--load-format": "eks.s3_weights",
    "--model-loader-extra-config": "eks.s3_weights",
}
OWNED_VARIABLES = {
    "VLLM_API_KEY": "the secret apiKey",
    "HF_TOKEN": "the secret hubToken",
    "HUGGING_FACE_HUB_TOKEN": "the secret hubToken",
    "HF_HUB_CACHE": "model.weights",
    "HF_HUB_OFFLINE": "model.weights",
    "PORT": "the image",
    "PORT_HEALTH": "the image",
    "HEALTH_CHECK_PATH": "the image",
    "RUNPOD_INIT_TIMEOUT": "serving.startup_timeout_seconds",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "the shared definition",
    "VLLM_ENGINE_READY_TIMEOUT_S": "serving.startup_timeout_seconds",
    "VLLM_MAX_AUDIO_CLIP_FILESIZE_MB": "serving.max_audio_mib",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "the shared definition",
}
VOLUME_VARIABLES = (
    "HF_HOME",
    "VLLM_CACHE_ROOT",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE",
)
_PARALLEL = "serving.tensor_parallel_size"
_COMPILATION_ARGUMENTS = {"--compilation-config", "-cc", "--cudagraph-capture-sizes"}
_OWNED_PREFIX = "BERTH_"  # what the image's entrypoint reads, and the mark of who made an endpoint


def within(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the problems of a section and of the sections in it, as pairs of dotted key and reason."""
    for key, reason in section.problems():
        yield prefix + key, reason
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from within(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                if isinstance(item, Section):
                    yield from within(item, f"{prefix}{key}.{name}.")


def across(
    *,
    targets: Sequence[Target],
    model: ModelSettings,
    server: ServerSettings | None,
    serving: ServingSettings,
    image: ImageSettings,
    eks: EksSettings | None,
    runpod: RunpodSettings | None,
    on_sandbox: bool,
    has_registry_password: bool,
) -> Iterator[tuple[str, str]]:
    """Yield the problems between sections, as pairs of dotted key and reason."""
    eks = eks if "eks" in targets else None
    runpod = runpod if "runpod" in targets else None
    yield from _owned(serving)
    yield from _not_compiled(model, serving)
    if server is None:
        yield from server_checks.of_vllm(model, on_sandbox=on_sandbox)
        yield from gpu_checks.across(model, eks, runpod)
    else:
        yield from server_checks.of_another_server(
            server, model=model, serving=serving, image=image, eks=eks, runpod=runpod
        )
    gpus = ("server.gpu_count", server.gpu_count) if server else (_PARALLEL, serving.tensor_parallel_size)
    if runpod is not None:
        yield from _of_runpod(gpus, serving, image, runpod, has_registry_password=has_registry_password)
    if eks is not None:
        yield from eks_checks.across(model=model, gpus=gpus, serving=serving, eks=eks, on_sandbox=on_sandbox)


def _of_runpod(
    gpus: tuple[str, int],
    serving: ServingSettings,
    image: ImageSettings,
    runpod: RunpodSettings,
    *,
    has_registry_password: bool,
) -> Iterator[tuple[str, str]]:
    key, count = gpus
    if runpod.gpu_count not in (None, count):
        yield "runpod.gpu_count", f" = {runpod.gpu_count} must be {key} ({count}), or be left out"
    if runpod.registry_username is not None and image.builder != "prebuilt":
        yield (
            "runpod.registry_username",
            ': goes with image.builder "prebuilt" only: RunPod pulls what is built here by delegation',
        )
    if runpod.registry_username is not None and not has_registry_password:
        yield (
            "registryPassword",
            " is missing: runpod.registry_username needs it: pulumi config set --secret registryPassword",
        )
    if runpod.registry_username is None and has_registry_password:
        yield "runpod.registry_username", " is missing: the secret registryPassword is of that name"
    for name in serving.environment if runpod.volumes else ():
        if name in VOLUME_VARIABLES:
            yield f"serving.environment.{name}", ": runpod.volumes decides it"


def _not_compiled(model: ModelSettings, serving: ServingSettings) -> Iterator[tuple[str, str]]:
    if serving.compile:
        return
    if model.task != "generate":
        yield "serving.compile", f' = false: goes with model.task "generate" only, not "{model.task}"'
    if serving.enforce_eager:
        yield (
            "serving.compile",
            " = false: serving.enforce_eager leaves it nothing to capture: set one of them",
        )
    for argument in serving.extra_args:
        if argument.partition("=")[0] in _COMPILATION_ARGUMENTS:
            yield (
                "serving.extra_args",
                f" has {argument.partition('=')[0]}, which serving.compile = false decides",
            )


def _owned(serving: ServingSettings) -> Iterator[tuple[str, str]]:
    for argument in serving.extra_args:
        owner = OWNED_ARGUMENTS.get(argument.partition("=")[0].replace("_", "-"))
        if owner is not None:
            yield "serving.extra_args", f" has {argument.partition('=')[0]}, which {owner} decides"
    for name in serving.environment:
        owner = OWNED_VARIABLES.get(name) or ("the image" if name.startswith(_OWNED_PREFIX) else None)
        if owner is not None:
            yield f"serving.environment.{name}", f": {owner} decides it"
