"""NVIDIA's device plugin: tells Kubernetes of the GPUs of machines whose system does not do it itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks.nodes import GPU_LABEL, GPU_TAINT_KEY, operating_system_label
from infra.eks.third_party import NVIDIA_DEVICE_PLUGIN
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.naming import Names
    from infra.settings import EksSettings

_NAME = "nvidia-device-plugin"
_FOLDER = "/var/lib/kubelet/device-plugins"


class DevicePlugin(pulumi.ComponentResource):
    """One pod on every GPU machine with Amazon Linux; Bottlerocket brings the plugin itself.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        after: what its pods need from their first moment to their last: the GPU node groups.
        opts: must give a Kubernetes provider.
    """

    resources: list[pulumi.Resource]
    """What pods with GPUs depend on; empty where no group needs it."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:DevicePlugin", name, None, opts)
        self.resources = []
        systems = {group.operating_system for group in settings.gpu_node_groups.values()}
        if "AL2023" in systems:
            selector = {"app.kubernetes.io/name": _NAME}
            self.resources.append(
                kubernetes.apps.v1.DaemonSet(
                    f"{name}-daemon-set",
                    metadata={
                        "name": _NAME,
                        "namespace": "kube-system",
                        "labels": {**names.labels, **selector},
                    },
                    spec={
                        "selector": {"match_labels": selector},
                        "update_strategy": {"type": "RollingUpdate"},
                        "template": {
                            "metadata": {"labels": {**names.labels, **selector}},
                            "spec": _pod(names),
                        },
                    },
                    opts=child(self, after=after, minutes=10),
                )
            )
        self.register_outputs({})


def _pod(names: Names) -> dict[str, Any]:
    return {
        # The driver and its runtime are the system's own and its default: a runtime class of that name, as
        # other guides set it, does not exist on these machines.
        "node_selector": {**GPU_LABEL, **operating_system_label(names, "AL2023")},
        "tolerations": [{"key": GPU_TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"}],
        "priority_class_name": "system-node-critical",
        "automount_service_account_token": False,
        "enable_service_links": False,
        "security_context": {"seccomp_profile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": _NAME,
                "image": NVIDIA_DEVICE_PLUGIN,
                "image_pull_policy": "IfNotPresent",
                # A machine whose driver does not answer is to be seen, not to wait without a GPU for ever.
                "env": [{"name": "FAIL_ON_INIT_ERROR", "value": "true"}],
                "resources": {
                    "requests": {"cpu": "50m", "memory": "64Mi"},
                    "limits": {"memory": "256Mi"},
                },
                # As root, whose the kubelet's folder is, but with none of root's rights beyond files.
                "security_context": {
                    "allow_privilege_escalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volume_mounts": [{"name": "device-plugins", "mount_path": _FOLDER}],
            }
        ],
        "volumes": [{"name": "device-plugins", "host_path": {"path": _FOLDER, "type": "Directory"}}],
    }
