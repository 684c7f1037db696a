"""What EKS offers: Kubernetes versions, add-ons with their versions, access policies.

Sources, as of November 2026: https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-versions.html,
https://docs.aws.amazon.com/eks/latest/userguide/workloads-add-ons-available-eks.html and
https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html. Patch and build numbers of
add-ons stand for whatever AWS has on a day; the sandbox runs none of them.
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

# add-on -> its versions, newest first
ADDONS: dict[str, list[str]] = {
    "vpc-cni": ["v1.21.1-eksbuild.3", "v1.21.1-eksbuild.1", "v1.20.4-eksbuild.2"],
    "coredns": ["v1.13.2-eksbuild.4", "v1.13.1-eksbuild.1", "v1.12.4-eksbuild.1"],
    "kube-proxy": ["v1.35.2-eksbuild.4", "v1.35.0-eksbuild.2", "v1.34.1-eksbuild.2"],
    "eks-pod-identity-agent": ["v1.3.10-eksbuild.2", "v1.3.9-eksbuild.5"],
    "eks-node-monitoring-agent": ["v1.5.2-eksbuild.1", "v1.4.2-eksbuild.1"],
    "metrics-server": ["v0.8.1-eksbuild.2", "v0.8.0-eksbuild.5"],
    "aws-ebs-csi-driver": ["v1.56.0-eksbuild.1", "v1.53.0-eksbuild.1"],
    "aws-efs-csi-driver": ["v2.3.0-eksbuild.1", "v2.1.14-eksbuild.1"],
    "amazon-cloudwatch-observability": ["v5.2.0-eksbuild.1", "v4.7.0-eksbuild.1"],
    "aws-mountpoint-s3-csi-driver": ["v2.3.0-eksbuild.1", "v2.2.1-eksbuild.1"],
}

# These run as Deployments: without a node they are never ready.
NEED_NODES = frozenset({"coredns", "metrics-server", "aws-ebs-csi-driver", "aws-efs-csi-driver"})

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
