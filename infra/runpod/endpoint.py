"""The RunPod endpoint as a component: the shared definition of the server on RunPod's machines."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pulumi
from pulumi import ResourceOptions

from infra.runpod.provider import EcrDelegation, Endpoint, Marker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.serving import ServingSpec
    from infra.settings import RunpodSettings


class RunpodEndpoint(pulumi.ComponentResource):
    """One serverless endpoint, and RunPod's right to pull its image.

    Args:
        name: the logical name of the component; its children's begin with it.
        settings: the stack's `runpod` section.
        serving: what runs, the same as on every other platform.
        image: the image, by digest.
        api_url: base URL of RunPod's REST v2.
        repository_arn: the ECR repository that RunPod is to pull from; None for an image that needs no right.
        repository_access: what must exist before RunPod is told of the repository: its policy.
        secret_environment: variables with secrets, such as HF_TOKEN; they are secret in state too.
    """

    endpoint_id: pulumi.Output[str]
    """The endpoint's id at RunPod."""
    base_url: pulumi.Output[str]
    """Where the server is reached, without `/v1`."""
    health_url: pulumi.Output[str]
    """Where its health is asked; asking starts a worker."""

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
        secret_environment: Mapping[str, pulumi.Input[str]] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        # The type is in state: another one replaces the endpoint.
        super().__init__("berth:runpod:Endpoint", name, None, opts)
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        marker = Marker(f"{name}-marker", owner=owner, opts=ResourceOptions(parent=self))
        before: list[pulumi.Resource] = []
        if repository_arn is not None:
            before.append(
                EcrDelegation(
                    f"{name}-ecr-delegation",
                    api_url=api_url,
                    marker=marker.value,
                    repository_arn=repository_arn,
                    opts=ResourceOptions(parent=self, depends_on=repository_access),
                )
            )
        endpoint = Endpoint(
            f"{name}-endpoint",
            api_url=api_url,
            marker=marker.value,
            name=f"{pulumi.get_project()}-{pulumi.get_stack()}",
            type=settings.endpoint_type,
            image=image,
            args=shlex.join(serving.args),
            disk=settings.disk_gib,
            env=_environment(serving, secret_environment or {}),
            ports=[f"{port}/http" for port in (serving.port, serving.health_port)],
            gpu={
                "pools": list(settings.gpu_pools),
                "excludedTypes": list(settings.excluded_gpu_types),
                "count": settings.gpu_count,
                "minCudaVersion": settings.min_cuda_version,
            },
            workers={
                "min": settings.workers_min,
                "max": settings.workers_max,
                "idleTimeout": settings.idle_timeout_seconds,
            },
            scaling={"type": "REQUEST_COUNT", "requestCount": settings.request_count},
            data_center_ids=list(settings.data_center_ids),
            flashboot=settings.flashboot,
            timeout=settings.timeout_ms,
            opts=ResourceOptions(parent=self, depends_on=before),
        )
        self.endpoint_id = endpoint.id
        self.base_url = endpoint.url
        self.health_url = endpoint.health
        self.register_outputs(
            {"endpointId": self.endpoint_id, "baseUrl": self.base_url, "healthUrl": self.health_url}
        )


def _environment(
    serving: ServingSpec, secrets: Mapping[str, pulumi.Input[str]]
) -> pulumi.Input[Mapping[str, pulumi.Input[str]]]:
    plain = {
        **serving.environment,
        "PORT": str(serving.port),
        "PORT_HEALTH": str(serving.health_port),
        "HEALTH_CHECK_PATH": serving.platform_health_path,
        # Without it RunPod gives a worker 7 minutes, less than large weights take to load.
        "RUNPOD_INIT_TIMEOUT": str(serving.startup_timeout_seconds),
    }
    if not secrets:
        return plain
    return pulumi.Output.secret({**plain, **secrets})
