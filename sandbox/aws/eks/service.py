"""The EKS API as one service."""

from __future__ import annotations

from sandbox.aws.eks.addons import Addons
from sandbox.aws.eks.clusters import Clusters
from sandbox.aws.eks.nodegroups import Nodegroups


class Eks(Clusters, Nodegroups, Addons):
    """All operations of EKS that the sandbox has."""
