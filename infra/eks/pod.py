"""The pod of the model server: its rights, probes, end, volumes and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.eks.nodes import GPU_LABEL, GPU_TAINT_KEY
from infra.timing import LIVENESS, READINESS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

    from infra.serving import ServingSpec
    from infra.settings import PodSettings
    from infra.timing import Probe

_GROUP = 0  # images that run as any user keep what they write open to this group
_SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def pod_spec(
    *,
    settings: PodSettings,
    serving: ServingSpec,
    image: pulumi.Input[str],
    args: Sequence[pulumi.Input[str]],
    environment: Mapping[str, pulumi.Input[str]],
    secret: pulumi.Input[str] | None,
    secret_environment: Mapping[str, str],
    service_account: pulumi.Input[str],
    priority_class: pulumi.Input[str],
    selector: Mapping[str, str],
) -> dict[str, Any]:
    """Return the specification of one replica's pod.

    Args:
        settings: the stack file's section `eks.pod`.
        serving: what is served.
        image: the image by digest.
        args: the arguments of the server.
        environment: the container's variables, without secrets.
        secret: the name of the Secret; None where no variable comes from one.
        secret_environment: variables and their keys in the Secret.
        service_account: whose role the pod takes, where it has one.
        priority_class: what it may be displaced by.
        selector: the labels of all replicas, which are spread over zones and machines.
    """
    return {
        "service_account_name": service_account,
        # Nothing here asks the cluster's API. A role's credentials come by another token, which EKS puts into
        # the pods of an associated service account whatever is said here.
        "automount_service_account_token": False,
        # Kubernetes would set VLLM_PORT and the like for a Service of that name, and vLLM reads them.
        "enable_service_links": False,
        "priority_class_name": priority_class,
        "termination_grace_period_seconds": serving.timing.termination_grace_seconds,
        "node_selector": GPU_LABEL,
        "tolerations": [{"key": GPU_TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"}],
        "topology_spread_constraints": [
            {
                "topology_key": key,
                "max_skew": 1,
                # A wish: GPUs are had where they are had.
                "when_unsatisfiable": "ScheduleAnyway",
                "label_selector": {"match_labels": dict(selector)},
                # In a rollout, the pods that are to go are no reason to be elsewhere.
                "match_label_keys": ["pod-template-hash"],
            }
            for key in _SPREAD_OVER
        ],
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": serving.user_id,
            "run_as_group": _GROUP,
            "fs_group": _GROUP,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "vllm",
                "image": image,
                "image_pull_policy": "IfNotPresent",
                **({"command": list(serving.command)} if serving.command else {}),
                "args": list(args),
                "env": [
                    *({"name": key, "value": value} for key, value in environment.items()),
                    *(
                        {"name": name, "value_from": {"secret_key_ref": {"name": secret, "key": key}}}
                        for name, key in secret_environment.items()
                    ),
                ],
                "ports": [{"name": "http", "container_port": serving.port}],
                **_life(serving),
                "security_context": {
                    "allow_privilege_escalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": _resources(settings, serving),
                "volume_mounts": [
                    {"name": "shm", "mount_path": "/dev/shm"},  # noqa: S108  # the pod's own
                    {"name": "cache", "mount_path": serving.data_path},
                ],
            }
        ],
        "volumes": [
            # Counts against the memory limit.
            {"name": "shm", "empty_dir": {"medium": "Memory", "size_limit": f"{serving.shm_gib}Gi"}},
            # On the machine's own NVMe disks where it has some: they hold all that pods write.
            {"name": "cache", "empty_dir": {"size_limit": f"{settings.cache_gib}Gi"}},
        ],
    }


def _life(serving: ServingSpec) -> dict[str, Any]:
    timing = serving.timing
    return {
        # vLLM answers only when the model is loaded, so until then only this probe asks: it has the whole of
        # the startup budget.
        "startup_probe": _probe(timing.startup, serving.health_path),
        "liveness_probe": _probe(LIVENESS, serving.health_path),
        "readiness_probe": _probe(READINESS, serving.health_path),
        # Still serving, until no address of the load balancer sends requests here; then vLLM gets its notice.
        "lifecycle": {"pre_stop": {"sleep": {"seconds": timing.pre_stop_seconds}}},
    }


def _probe(probe: Probe, path: str) -> dict[str, Any]:
    return {
        "http_get": {"path": path, "port": "http"},
        "period_seconds": probe.period_seconds,
        "timeout_seconds": probe.timeout_seconds,
        "failure_threshold": probe.failure_threshold,
    }


def _resources(settings: PodSettings, serving: ServingSpec) -> dict[str, Any]:
    limits = {"memory": f"{settings.memory_gib}Gi", "nvidia.com/gpu": str(serving.gpu_count)}
    # No limit of CPU: the engine's threads would be stopped in the middle of a step.
    return {"requests": {"cpu": f"{settings.cpu_millicores}m", **limits}, "limits": limits}
