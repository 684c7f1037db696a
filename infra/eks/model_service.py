"""The model server in the cluster: Deployment, Service, Secret and disruption budget."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks.nodes import GPU_LABEL, GPU_TAINT_KEY
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

NODE_PORT = 30080
"""Where every node takes requests for the model: part of the load balancer's target group."""

_NAME = "model"
_STARTUP_PERIOD_SECONDS = 5
_PULL_AND_SCHEDULE_SECONDS = 900  # a machine that comes up first, and ten gigabytes of image
_USER, _GROUP = 2000, 0  # vLLM's image keeps its home writable for this user and group
_CACHE = "/home/vllm/.cache"


class ModelService(pulumi.ComponentResource):
    """One Deployment of the model server with as many replicas as the stack says.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served.
        image: the image by digest.
        api_key: what requests must carry.
        hub_token: for models that are not public; None without one.
        after: what pods need from their first moment to their last: nodes, DNS.
        opts: must give a Kubernetes provider.
    """

    service: kubernetes.core.v1.Service
    deployment: kubernetes.apps.v1.Deployment

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        image: pulumi.Input[str],
        api_key: pulumi.Input[str],
        hub_token: pulumi.Input[str] | None,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:ModelService", name, None, opts)
        self._names, self._selector = names, {"app.kubernetes.io/name": _NAME}
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": names.project, "labels": names.labels},
            opts=child(self, after=after, minutes=10),
        )
        self._namespace = namespace.metadata.name
        values: dict[str, pulumi.Input[str]] = {"api-key": api_key}
        if hub_token is not None:
            values["hub-token"] = hub_token
        secret = kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata=self._metadata(),
            string_data=pulumi.Output.secret(values),
            opts=child(self, minutes=5),
        )
        rollout_seconds = serving.startup_timeout_seconds + _PULL_AND_SCHEDULE_SECONDS
        self.deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=self._metadata(),
            spec={
                "replicas": settings.replicas,
                "progress_deadline_seconds": rollout_seconds,
                "revision_history_limit": 3,
                "selector": {"match_labels": self._selector},
                "strategy": {
                    "type": "RollingUpdate",
                    # Without a spare GPU, a new pod would wait for ever for the old one's.
                    "rolling_update": {
                        "max_surge": 1 if settings.surge else 0,
                        "max_unavailable": 0 if settings.surge else 1,
                    },
                },
                "template": {
                    "metadata": {
                        "labels": {**names.labels, **self._selector},
                        # A new key or token starts new pods: variables are read once.
                        "annotations": {f"{names.project}/secret": _fingerprint(values)},
                    },
                    "spec": self._pod(settings, serving, image, secret.metadata.name, "hub-token" in values),
                },
            },
            # One replica after the other, at worst.
            opts=child(self, minutes=math.ceil(rollout_seconds * settings.replicas / 60) + 5),
        )
        self.service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=self._metadata(),
            spec={
                "type": "NodePort",
                "selector": self._selector,
                "ports": [
                    {"name": "http", "port": serving.port, "target_port": "http", "node_port": NODE_PORT}
                ],
            },
            # Kubernetes gives a Service its endpoints when the pods are ready.
            opts=child(self, after=[self.deployment], minutes=15),
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata=self._metadata(),
            # Of one replica too: a machine that is replaced must get rid of its pod.
            spec={"max_unavailable": 1, "selector": {"match_labels": self._selector}},
            opts=child(self, minutes=5),
        )
        self.register_outputs({})

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": _NAME,
            "namespace": self._namespace,
            "labels": {**self._names.labels, **self._selector},
        }

    def _pod(
        self,
        settings: EksSettings,
        serving: ServingSpec,
        image: pulumi.Input[str],
        secret: pulumi.Input[str],
        has_hub_token: bool,
    ) -> dict[str, Any]:
        secrets = {"VLLM_API_KEY": "api-key", **({"HF_TOKEN": "hub-token"} if has_hub_token else {})}
        health = {"http_get": {"path": serving.health_path, "port": "http"}, "timeout_seconds": 5}
        gpus = {"nvidia.com/gpu": str(serving.gpu_count)}
        memory = {"memory": f"{settings.pod.memory_gib}Gi"}
        return {
            # Kubernetes would set VLLM_PORT and the like for a Service of that name, and vLLM reads them.
            "enable_service_links": False,
            "automount_service_account_token": False,
            "termination_grace_period_seconds": serving.termination_grace_seconds,
            "node_selector": GPU_LABEL,
            "tolerations": [{"key": GPU_TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"}],
            "security_context": {
                "run_as_non_root": True,
                "run_as_user": _USER,
                "run_as_group": _GROUP,
                "fs_group": _GROUP,
                "seccomp_profile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "vllm",
                    "image": image,
                    "image_pull_policy": "IfNotPresent",
                    "args": list(serving.args),
                    "env": [
                        *({"name": key, "value": value} for key, value in serving.environment.items()),
                        *(
                            {"name": name, "value_from": {"secret_key_ref": {"name": secret, "key": key}}}
                            for name, key in secrets.items()
                        ),
                    ],
                    "ports": [{"name": "http", "container_port": serving.port}],
                    # vLLM answers only when the model is loaded, so until then only this probe asks: it has
                    # the whole of the startup budget.
                    "startup_probe": {
                        **health,
                        "period_seconds": _STARTUP_PERIOD_SECONDS,
                        "failure_threshold": math.ceil(
                            serving.startup_timeout_seconds / _STARTUP_PERIOD_SECONDS
                        ),
                    },
                    "liveness_probe": {**health, "period_seconds": 10, "failure_threshold": 6},
                    "readiness_probe": {**health, "period_seconds": 5, "failure_threshold": 2},
                    # Still serving, until no node sends requests here any more; then vLLM gets its notice.
                    "lifecycle": (
                        {"pre_stop": {"sleep": {"seconds": serving.pre_stop_seconds}}}
                        if serving.pre_stop_seconds
                        else None
                    ),
                    "security_context": {
                        "allow_privilege_escalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    # No limit of CPU: the engine's threads would be stopped in the middle of a step.
                    "resources": {
                        "requests": {"cpu": f"{settings.pod.cpu_millicores}m", **memory, **gpus},
                        "limits": {**memory, **gpus},
                    },
                    "volume_mounts": [
                        {"name": "shm", "mount_path": "/dev/shm"},  # noqa: S108  # the pod's own
                        {"name": "cache", "mount_path": _CACHE},
                    ],
                }
            ],
            "volumes": [
                # Counts against the memory limit.
                {"name": "shm", "empty_dir": {"medium": "Memory", "size_limit": f"{serving.shm_gib}Gi"}},
                {"name": "cache", "empty_dir": {}},
            ],
        }


def _fingerprint(values: dict[str, pulumi.Input[str]]) -> pulumi.Output[str]:
    return pulumi.Output.secret(
        pulumi.Output.json_dumps(values).apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:16])
    )
