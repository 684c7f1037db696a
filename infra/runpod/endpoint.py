"""The RunPod endpoint as a component: the shared definition of the server on RunPod's machines."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import ResourceOptions

from infra.runpod.provider import EcrDelegation, Endpoint, Marker
from infra.runpod.registry import RegistryCredential
from infra.runpod.volume import NetworkVolume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.serving import ServingSpec
    from infra.settings import RunpodSettings

_CONSOLE = "https://console.runpod.io/serverless/user/endpoint/"
# Where RunPod mounts the network volume of a serverless worker; source: its documentation on storage.
_MOUNT = "/runpod-volume"
_KEY_LENGTH = 16


class RunpodEndpoint(pulumi.ComponentResource):
    """One serverless endpoint, RunPod's right to pull its image, and volumes that keep its weights.

    Args:
        name: the logical name of the component; its children's begin with it.
        settings: the stack's `runpod` section.
        serving: what runs, the same as on every other platform.
        image: the image, by digest.
        api_url: base URL of RunPod's REST v2.
        repository_arn: the ECR repository that RunPod is to pull from; None for an image that needs no right.
        repository_access: what must exist before RunPod is told of the repository: its policy.
        registry_password: of the settings' `registry_username`, where there is one.
        secret_environment: variables with secrets, such as HF_TOKEN; they are secret in state too.
    """

    endpoint_id: pulumi.Output[str]
    """The endpoint's id at RunPod."""
    base_url: pulumi.Output[str]
    """Where OpenAI's routes are reached, without `/v1`."""
    health_url: pulumi.Output[str]
    """Where its health is asked; of a load balancer, asking starts a worker."""
    jobs_url: pulumi.Output[str] | None
    """Where jobs are posted; None for a load balancer, which has none."""
    console_url: pulumi.Output[str]
    """Its page in RunPod's console."""

    def __init__(
        self,
        name: str,
        *,
        settings: RunpodSettings,
        serving: ServingSpec,
        image: pulumi.Input[str],
        api_url: pulumi.Input[str],
        repository_arn: pulumi.Input[str] | None = None,
        repository_access: Sequence[pulumi.Resource] = (),
        registry_password: pulumi.Input[str] | None = None,
        secret_environment: Mapping[str, pulumi.Input[str]] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        # The type is in state: another one replaces the endpoint.
        super().__init__("berth:runpod:Endpoint", name, None, opts)
        child = ResourceOptions(parent=self)
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        marker = Marker(f"{name}-marker", api_url=api_url, owner=owner, opts=child)
        before: list[pulumi.Resource] = []
        if repository_arn is not None:
            access = ResourceOptions(parent=self, depends_on=repository_access)
            before.append(
                EcrDelegation(
                    f"{name}-ecr-delegation",
                    api_url=api_url,
                    marker=marker.value,
                    repository_arn=repository_arn,
                    opts=access,
                )
            )
        registry: pulumi.Input[str] | None = None
        if settings.registry_username is not None and registry_password is not None:
            registry = RegistryCredential(
                f"{name}-registry-credential",
                api_url=api_url,
                marker=marker.value,
                username=settings.registry_username,
                password=pulumi.Output.secret(registry_password),
                opts=child,
            ).id
        volumes = [
            NetworkVolume(
                # A volume of another data center is another resource: it has the place in its name.
                f"{name}-volume-{volume.data_center_id.lower()}",
                api_url=api_url,
                marker=marker.value,
                name=f"{pulumi.get_project()}-{pulumi.get_stack()}",
                size=volume.size_gib,
                data_center=volume.data_center_id,
                type=volume.type,
                opts=child,
            )
            for volume in settings.volumes
        ]
        is_queue = settings.endpoint_type == "QUEUE"
        doors = _queue_door(serving) if is_queue else _balancer_door(serving)
        caches = _caches(serving, image) if volumes else {}
        endpoint = Endpoint(
            f"{name}-endpoint",
            api_url=api_url,
            marker=marker.value,
            name=f"{pulumi.get_project()}-{pulumi.get_stack()}",
            type=settings.endpoint_type,
            image=image,
            args=shlex.join(serving.args),
            disk=settings.disk_gib,
            env=_environment({**doors, **caches}, secret_environment or {}),
            ports=[] if is_queue else [f"{port}/http" for port in _ports(serving)],
            registry=registry,
            gpu=_gpu(settings, serving),
            workers=_workers(settings),
            scaling=_scaling(settings),
            data_center_ids=list(settings.placement),
            network_volumes=[volume.id for volume in volumes],
            flashboot=settings.flashboot,
            timeout=settings.timeout_ms,
            opts=ResourceOptions(parent=self, depends_on=before),
        )
        self.endpoint_id = endpoint.id
        self.health_url = endpoint.health
        self.console_url = pulumi.Output.concat(_CONSOLE, endpoint.id)
        self.jobs_url = endpoint.url if is_queue else None
        self.base_url = pulumi.Output.concat(endpoint.url, "/openai") if is_queue else endpoint.url
        self.register_outputs(
            {"endpointId": self.endpoint_id, "baseUrl": self.base_url, "healthUrl": self.health_url}
        )


def _ports(serving: ServingSpec) -> list[int]:
    return list(dict.fromkeys((serving.port, serving.health_port)))


def _balancer_door(serving: ServingSpec) -> dict[str, str]:
    """Return the variables of a worker that RunPod's load balancer sends requests to."""
    return {
        **serving.environment,
        "PORT": str(serving.port),
        "PORT_HEALTH": str(serving.health_port),
        "HEALTH_CHECK_PATH": serving.platform_health_path,
        **_startup(serving),
    }


def _queue_door(serving: ServingSpec) -> dict[str, str]:
    """Return the variables of a worker that fetches jobs: nothing reaches it from outside."""
    plain = {key: value for key, value in serving.environment.items() if key != "PORT"}
    return {**plain, **serving.queue_environment, **_startup(serving)}


def _startup(serving: ServingSpec) -> dict[str, str]:
    # Without it RunPod gives a worker 7 minutes, less than large weights take to load.
    return {"RUNPOD_INIT_TIMEOUT": str(serving.startup_timeout_seconds)}


def _caches(serving: ServingSpec, image: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """Return the variables that put weights and compiled code on the volume.

    Compiled code has a folder for each image and arguments: workers of two releases share the volume while
    one rolls out, and what one version of vLLM compiled another must not load.
    """

    def folder(reference: str) -> str:
        key = hashlib.sha256("\n".join((reference, *serving.args)).encode()).hexdigest()[:_KEY_LENGTH]
        return f"{_MOUNT}/compiled/{key}"

    compiled = pulumi.Output.from_input(image).apply(folder)
    return {
        "HF_HOME": f"{_MOUNT}/huggingface",
        "VLLM_CACHE_ROOT": pulumi.Output.concat(compiled, "/vllm"),
        "TORCHINDUCTOR_CACHE_DIR": pulumi.Output.concat(compiled, "/inductor"),
        "TRITON_CACHE_DIR": pulumi.Output.concat(compiled, "/triton"),
        # Kernels that the image does not have: building one was seen to take minutes.
        "FLASHINFER_WORKSPACE_BASE": pulumi.Output.concat(compiled, "/flashinfer"),
    }


def _environment(
    plain: Mapping[str, pulumi.Input[str]], secrets: Mapping[str, pulumi.Input[str]]
) -> pulumi.Input[Mapping[str, pulumi.Input[str]]]:
    return pulumi.Output.secret({**plain, **secrets}) if secrets else plain


def _gpu(settings: RunpodSettings, serving: ServingSpec) -> dict[str, Any]:
    allowed = list(settings.allowed_cuda_versions)
    return {
        "pools": list(settings.gpu_pools),
        "excludedTypes": list(settings.excluded_gpu_types),
        "count": serving.gpu_count,
        **({"allowedCudaVersions": allowed} if allowed else {"minCudaVersion": settings.min_cuda_version}),
    }


def _workers(settings: RunpodSettings) -> dict[str, int]:
    limits = {"min": settings.workers_min, "max": settings.workers_max}
    if settings.scales_without_idle_timeout:
        return limits
    return {**limits, "idleTimeout": settings.idle_timeout_seconds}


def _scaling(settings: RunpodSettings) -> dict[str, Any]:
    if settings.queue_delay_seconds is not None:
        return {"type": "QUEUE_DELAY", "queueDelay": settings.queue_delay_seconds}
    return {"type": "REQUEST_COUNT", "requestCount": settings.request_count}
