"""What EKS offers: Kubernetes versions, add-ons with their versions, machine image releases, access policies.

Sources, as of November 2026: https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-versions.html,
https://docs.aws.amazon.com/eks/latest/userguide/workloads-add-ons-available-eks.html,
https://github.com/awslabs/amazon-eks-ami/releases and
https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html. Patch and build numbers of
add-ons and images stand for whatever AWS has on a day; the sandbox runs none of them.
"""

from __future__ import annotations

from datetime import UTC, datetime

DEFAULT_VERSION = "1.35"


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# version -> (released, end of standard support, end of extended support)
VERSIONS: dict[str, tuple[datetime, datetime, datetime]] = {
    "1.36": (_day("2026-06-16"), _day("2027-08-16"), _day("2028-08-16")),
    "1.35": (_day("2026-01-27"), _day("2027-03-27"), _day("2028-03-27")),
    "1.34": (_day("2025-10-02"), _day("2026-12-02"), _day("2027-12-02")),
    "1.33": (_day("2025-05-29"), _day("2026-07-29"), _day("2027-07-29")),
}

# The zones in which EKS has no room for a control plane, by their ids.
# https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
ZONES_WITHOUT_CONTROL_PLANE = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})

_EVERY = tuple(VERSIONS)

# add-on -> its versions, newest first, each with the Kubernetes versions that it is for
ADDONS: dict[str, dict[str, tuple[str, ...]]] = {
    "vpc-cni": {
        "v1.21.1-eksbuild.3": _EVERY,
        "v1.21.1-eksbuild.1": _EVERY,
        "v1.20.4-eksbuild.2": ("1.35", "1.34", "1.33"),
    },
    "coredns": {
        "v1.13.2-eksbuild.4": ("1.36", "1.35"),
        "v1.13.1-eksbuild.1": ("1.36", "1.35", "1.34"),
        "v1.12.4-eksbuild.1": ("1.34", "1.33"),
    },
    "kube-proxy": {
        "v1.36.1-eksbuild.2": ("1.36",),
        "v1.36.0-eksbuild.3": ("1.36",),
        "v1.35.2-eksbuild.4": ("1.36", "1.35"),
        "v1.35.0-eksbuild.2": ("1.36", "1.35"),
        "v1.34.1-eksbuild.2": ("1.36", "1.35", "1.34"),
        "v1.33.5-eksbuild.2": ("1.36", "1.35", "1.34", "1.33"),
    },
    "eks-pod-identity-agent": {"v1.3.10-eksbuild.2": _EVERY, "v1.3.9-eksbuild.5": _EVERY},
    "eks-node-monitoring-agent": {"v1.5.2-eksbuild.1": _EVERY, "v1.4.2-eksbuild.1": _EVERY},
    "metrics-server": {"v0.8.1-eksbuild.2": _EVERY, "v0.8.0-eksbuild.5": _EVERY},
    "aws-ebs-csi-driver": {"v1.56.0-eksbuild.1": _EVERY, "v1.53.0-eksbuild.1": _EVERY},
    "aws-efs-csi-driver": {"v2.3.0-eksbuild.1": _EVERY, "v2.1.14-eksbuild.1": _EVERY},
    "amazon-cloudwatch-observability": {"v5.2.0-eksbuild.1": _EVERY, "v4.7.0-eksbuild.1": _EVERY},
    "aws-mountpoint-s3-csi-driver": {"v2.3.0-eksbuild.1": _EVERY, "v2.2.1-eksbuild.1": _EVERY},
}

# EKS's default is not the newest: it gives a version some weeks first.
_DEFAULTS = {"vpc-cni": "v1.21.1-eksbuild.1"}

# add-on -> the service accounts that may be given a role by pod identity
ADDON_SERVICE_ACCOUNTS: dict[str, tuple[str, ...]] = {
    "vpc-cni": ("aws-node",),
    "aws-ebs-csi-driver": ("ebs-csi-controller-sa",),
    "aws-efs-csi-driver": ("efs-csi-controller-sa",),
    "amazon-cloudwatch-observability": ("cloudwatch-agent",),
    "aws-mountpoint-s3-csi-driver": ("s3-csi-driver-sa",),
}
ADDON_NAMESPACES = {"amazon-cloudwatch-observability": "amazon-cloudwatch"}

# These run as Deployments: without a node they are never ready.
NEED_NODES = frozenset({"coredns", "metrics-server", "aws-ebs-csi-driver", "aws-efs-csi-driver"})

# Releases of the machine images, newest first.
_AL2023_RELEASES = {
    "1.36": ("1.36.3-20261110", "1.36.2-20260714"),
    "1.35": ("1.35.8-20261110", "1.35.6-20260724"),
    "1.34": ("1.34.10-20261110", "1.34.9-20260724"),
    "1.33": ("1.33.13-20261110", "1.33.12-20260724"),
}
_BOTTLEROCKET_RELEASES = ("1.59.0-3e1c4d2a", "1.57.0-9b27f6c1")

POLICY_PREFIX = "arn:aws:eks::aws:cluster-access-policy/"
ACCESS_POLICIES = (
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSAutoNodePolicy",
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSClusterInsightsPolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSSecretReaderPolicy",
    "AmazonEKSViewPolicy",
)


def addon_versions(name: str, cluster_version: str) -> list[str]:
    """Return the versions of an add-on for a Kubernetes version, newest first."""
    return [version for version, clusters in ADDONS[name].items() if cluster_version in clusters]


def default_addon_version(name: str, cluster_version: str) -> str:
    """Return the version of an add-on that a cluster gets when none is named."""
    versions = addon_versions(name, cluster_version)
    chosen = _DEFAULTS.get(name)
    return chosen if chosen in versions else versions[0]


def node_releases(ami_type: str, cluster_version: str) -> tuple[str, ...]:
    """Return the releases of a kind of machine image for a Kubernetes version, newest first."""
    if ami_type.startswith("BOTTLEROCKET"):
        return _BOTTLEROCKET_RELEASES
    return _AL2023_RELEASES[cluster_version]
