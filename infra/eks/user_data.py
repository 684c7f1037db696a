"""What a GPU machine is told at its first start: pull images in parallel, and use its own fast disks.

EKS adds the cluster's own part to it, as the launch template names no image.
"""

from __future__ import annotations

import base64

_BOUNDARY = "BERTH"

# Layers are fetched in parts and unpacked beside each other (SOCI's parallel mode): an image of 10 GB is
# there in one minute instead of five. Ignored by machines with less than 4 vCPUs. `RAID0` puts containerd's,
# the kubelet's and SOCI's folders on all instance-store disks together, as one.
# Source: nodeadm of amazon-eks-ami, doc/usage and API v1alpha1.
_NODE_CONFIG = """\
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  featureGates:
    FastImagePull: true
"""
_NODE_CONFIG_RAID = """\
  instance:
    localStorage:
      strategy: RAID0
"""

# Sources: Bottlerocket's API reference, settings.container-runtime and settings.container-runtime-plugins;
# the figures are within those that SOCI's documentation gives for ECR.
_BOTTLEROCKET = """\
[settings.container-runtime]
snapshotter = "soci"

[settings.container-runtime-plugins.soci-snapshotter]
pull-mode = "parallel-pull-unpack"

[settings.container-runtime-plugins.soci-snapshotter.parallel-pull-unpack]
max-concurrent-downloads-per-image = 20
concurrent-download-chunk-size = "16mb"
max-concurrent-unpacks-per-image = 12
discard-unpacked-layers = true
"""
# Source: Bottlerocket's API reference, settings.bootstrap-commands; Karpenter writes the same for RAID0. A
# machine without such disks would not start: `init` fails there, and it is essential.
_BOTTLEROCKET_RAID = """
[settings.bootstrap-commands.ephemeral-storage]
commands = [
  ["apiclient", "ephemeral-storage", "init"],
  ["apiclient", "ephemeral-storage", "bind", "--dirs", "/var/lib/containerd", "/var/lib/kubelet", \
"/var/log/pods", "/var/lib/soci-snapshotter"],
]
essential = true
mode = "always"
"""


def al2023(*, instance_store: bool) -> str:
    """Return the user data of Amazon Linux 2023, in base64.

    Args:
        instance_store: use the machine's own disks for images and pods.
    """
    config = _NODE_CONFIG + (_NODE_CONFIG_RAID if instance_store else "")
    return _encoded(
        "MIME-Version: 1.0\n"
        f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\n\n'
        f"--{_BOUNDARY}\n"
        "Content-Type: application/node.eks.aws\n\n"
        f"{config}\n"
        f"--{_BOUNDARY}--\n"
    )


def bottlerocket(*, instance_store: bool) -> str:
    """Return the user data of Bottlerocket, in base64.

    Args:
        instance_store: use the machine's own disks for images and pods.
    """
    return _encoded(_BOTTLEROCKET + (_BOTTLEROCKET_RAID if instance_store else ""))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
