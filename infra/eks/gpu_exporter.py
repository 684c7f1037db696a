"""NVIDIA's DCGM exporter: what each GPU does, and which pod it does it for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi_kubernetes as kubernetes

from infra.eks.nodes import GPU_LABEL, GPU_TAINT_KEY
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pulumi

    from infra.naming import Names

DCGM_EXPORTER = (
    "nvcr.io/nvidia/k8s/dcgm-exporter:4.6.0-4.8.3-distroless"
    "@sha256:b4df763de9558e5b3f1f1d79bc65b772fcf65b8a9c3664ea7173e47153112b4a"
)
"""By tag for people and by digest for machines: the release's, as several public repositories pin it."""

SELECTOR = {"app.kubernetes.io/name": "dcgm-exporter"}
PORT_NAME = "metrics"

COUNTERS = {
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization in percent",
    "DCGM_FI_DEV_FB_USED": "Memory in use in MiB",
    "DCGM_FI_DEV_FB_FREE": "Free memory in MiB",
    "DCGM_FI_DEV_GPU_TEMP": "Temperature in degrees Celsius",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw in W",
    "DCGM_FI_DEV_XID_ERRORS": "Code of the last XID error",
}
"""Gauges that are exported, by DCGM's names; none that needs rights over the machine, as profiling does."""

_NAME = "dcgm-exporter"
_PORT = 9400
_COUNTERS_FILE = "counters.csv"
_COUNTERS_FOLDER = "/etc/berth"
_POD_RESOURCES = "/var/lib/kubelet/pod-resources"


def daemon_set(
    parent: pulumi.Resource,
    name: str,
    *,
    names: Names,
    namespace: pulumi.Input[str],
    after: Sequence[pulumi.Resource],
) -> kubernetes.apps.v1.DaemonSet:
    """Return one pod of the exporter on every GPU machine.

    Args:
        parent: the component.
        name: the logical name.
        names: the stack's names.
        namespace: where the pods are.
        after: what they need from their first moment to their last.
    """
    labels = {**names.labels, **SELECTOR}
    counters = kubernetes.core.v1.ConfigMap(
        f"{name}-counters",
        metadata={"name": f"{_NAME}-counters", "namespace": namespace, "labels": labels},
        data={
            _COUNTERS_FILE: "".join(f"{counter}, gauge, {text}.\n" for counter, text in COUNTERS.items()),
        },
        opts=child(parent, minutes=5),
    )
    return kubernetes.apps.v1.DaemonSet(
        f"{name}-daemon-set",
        metadata={"name": _NAME, "namespace": namespace, "labels": labels},
        spec={
            "selector": {"match_labels": SELECTOR},
            "update_strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": labels}, "spec": _pod(counters.metadata.name)},
        },
        opts=child(parent, after=after, minutes=10),
    )


def _pod(counters: pulumi.Input[str]) -> dict[str, Any]:
    return {
        "node_selector": GPU_LABEL,
        "tolerations": [{"key": GPU_TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"}],
        "priority_class_name": "system-node-critical",
        "automount_service_account_token": False,
        "enable_service_links": False,
        "security_context": {"seccomp_profile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": _NAME,
                "image": DCGM_EXPORTER,
                "image_pull_policy": "IfNotPresent",
                "env": [
                    {"name": "DCGM_EXPORTER_LISTEN", "value": f":{_PORT}"},
                    {"name": "DCGM_EXPORTER_KUBERNETES", "value": "true"},
                    {"name": "DCGM_EXPORTER_COLLECTORS", "value": f"{_COUNTERS_FOLDER}/{_COUNTERS_FILE}"},
                    # Its entrypoint would give the program rights that this container does not have.
                    {"name": "NO_SETCAP", "value": "1"},
                    # All GPUs, without asking Kubernetes for one, so that the model gets them.
                    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
                ],
                "ports": [{"name": PORT_NAME, "container_port": _PORT}],
                "readiness_probe": {
                    "http_get": {"path": "/health", "port": PORT_NAME},
                    "period_seconds": 10,
                    "timeout_seconds": 5,
                },
                # DCGM starts slowly on a machine with eight GPUs.
                "liveness_probe": {
                    "http_get": {"path": "/health", "port": PORT_NAME},
                    "initial_delay_seconds": 60,
                    "period_seconds": 20,
                    "failure_threshold": 5,
                    "timeout_seconds": 5,
                },
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                # As root, whose the kubelet's socket is, but with none of root's rights beyond files.
                "security_context": {
                    "allow_privilege_escalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volume_mounts": [
                    {"name": "counters", "mount_path": _COUNTERS_FOLDER, "read_only": True},
                    {"name": "pod-resources", "mount_path": _POD_RESOURCES, "read_only": True},
                    {"name": "all-devices", "mount_path": "/var/run/nvidia-container-devices/all"},
                ],
            }
        ],
        "volumes": [
            {"name": "counters", "config_map": {"name": counters}},
            # Which pod has which GPU.
            {"name": "pod-resources", "host_path": {"path": _POD_RESOURCES, "type": "Directory"}},
            # Bottlerocket does not heed the variable, but a mount of that name.
            {"name": "all-devices", "host_path": {"path": "/dev/null", "type": "CharDevice"}},
        ],
    }
