"""EKS add-ons, in two steps: what nodes need to come up, and what needs nodes to come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.eks.cluster import Cluster

_BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
# They stay in the cluster when the add-on is deleted, and go with it. The CNI must: gone before the last
# node, it leaves network interfaces behind that keep subnets and security groups from being deleted.
_PRESERVED = ("vpc-cni", "kube-proxy")
_MINUTES = 20


class NodeAddons(pulumi.ComponentResource):
    """The network and identity of pods: there before the nodes, gone after them.

    Args:
        name: the logical name.
        cluster: the cluster.
        opts: must give an AWS provider.
    """

    addons: list[aws.eks.Addon]

    def __init__(self, name: str, *, cluster: Cluster, opts: pulumi.ResourceOptions) -> None:
        super().__init__("berth:eks:NodeAddons", name, None, opts)
        self.addons = [_addon(self, f"{name}-{addon}", cluster, addon) for addon in _BEFORE_NODES]
        self.register_outputs({})


class ClusterAddons(pulumi.ComponentResource):
    """What runs on the system nodes: CoreDNS is not active before there is one.

    Args:
        name: the logical name.
        cluster: the cluster.
        nodes: the system node group.
        opts: must give an AWS provider.
    """

    addons: list[aws.eks.Addon]

    def __init__(
        self,
        name: str,
        *,
        cluster: Cluster,
        nodes: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:ClusterAddons", name, None, opts)
        self.addons = [_addon(self, f"{name}-coredns", cluster, "coredns", after=nodes)]
        self.register_outputs({})


def _addon(
    parent: pulumi.Resource,
    name: str,
    cluster: Cluster,
    addon: str,
    *,
    after: Sequence[pulumi.Resource] = (),
) -> aws.eks.Addon:
    return aws.eks.Addon(
        name,
        cluster_name=cluster.cluster.name,
        addon_name=addon,
        preserve=addon in _PRESERVED,
        resolve_conflicts_on_create="OVERWRITE",
        resolve_conflicts_on_update="OVERWRITE",
        opts=child(parent, after=after, minutes=_MINUTES, delete_before_replace=True),
    )
