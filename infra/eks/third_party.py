"""Images that others build, by tag for people and by digest for machines: tags move.

Sources: the projects' own releases; the digests are those of their multi-platform indexes, as several public
repositories pin them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NVIDIA_DEVICE_PLUGIN = (
    "nvcr.io/nvidia/k8s-device-plugin:v0.18.2"
    "@sha256:b5788e29e7ae5272de8de863ebe386d6611e608421a6ecc5b4e7d5952aba637f"
)

CLUSTER_AUTOSCALER: Mapping[str, str] = MappingProxyType(
    {
        "1.35": (
            "registry.k8s.io/autoscaling/cluster-autoscaler:v1.35.0"
            "@sha256:2fc9433dd3b47baef0e68d6b1110b770a3c93db10c7bead4c5bc6cb21c72b875"
        ),
        "1.36": (
            "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0"
            "@sha256:dc5d62770338c2902f31b01f95c9fc8c456fd88baa5364ca154d6e47069ec885"
        ),
    }
)
"""By the cluster's minor version: the autoscaler simulates that version's scheduler, and no other's."""
