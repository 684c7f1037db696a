"""EKS add-ons, in two steps: what nodes need to come up, and what needs nodes to come up."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra.eks.identity import PodRole, pod_role
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.eks.cluster import Cluster
    from infra.naming import Names
    from infra.settings import EksSettings

_MINUTES = 20


@dataclass(frozen=True)
class _Addon:
    """One add-on of EKS.

    Attributes:
        name: EKS's name of it.
        preserved: stays in the cluster when the add-on is deleted, and goes with it.
        namespace: where its pods are.
        service_account: which of its service accounts calls AWS.
        policies: the managed policies of that service account.
        configuration: what differs from its defaults.
    """

    name: str
    preserved: bool = False
    namespace: str = "kube-system"
    service_account: str | None = None
    policies: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)


# All of them are DaemonSets, active while there is no node.
_BEFORE_NODES = (
    # First: with an association and no agent, the CNI crashes. The agent is on the host's network and
    # tolerates every taint: it needs no CNI, and runs on machines that are not ready yet for lack of one.
    _Addon("eks-pod-identity-agent"),
    # Preserved: gone before the last node, it leaves network interfaces behind that keep subnets and security
    # groups from being deleted.
    _Addon(
        "vpc-cni",
        preserved=True,
        service_account="aws-node",
        policies=("AmazonEKS_CNI_Policy",),
        configuration={
            # Else policies are there and nothing enforces them.
            "enableNetworkPolicy": "true",
            # Pods get addresses in blocks of 16: machines hold more of them, with fewer calls to AWS. One
            # block is kept ready, so that the first pods of a machine wait for none.
            "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
        },
    ),
    _Addon("kube-proxy", preserved=True),
    # Sees GPUs fail, for the repair of nodes.
    _Addon("eks-node-monitoring-agent"),
)
# Deployments, not active before there is a machine for them; none tolerates the taint of GPU machines.
_AFTER_NODES = (_Addon("coredns"), _Addon("metrics-server"))
_OBSERVABILITY = _Addon(
    "amazon-cloudwatch-observability",
    namespace="amazon-cloudwatch",
    service_account="cloudwatch-agent",
    policies=("CloudWatchAgentServerPolicy",),
)


class NodeAddons(pulumi.ComponentResource):
    """The network and identity of pods: there before the nodes, gone after them.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        cluster: the cluster.
        provider: the AWS provider, for the question which versions there are.
        after: what must be there before them and go after them: the sweep of what the CNI leaves.
        opts: must give the same AWS provider.
    """

    addons: list[pulumi.Resource]
    """What machines and pods depend on, the add-ons' own rights included."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        cluster: Cluster,
        provider: aws.Provider,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:NodeAddons", name, None, opts)
        make = _Maker(self, name, names, settings, cluster, provider)
        agent, *others = _BEFORE_NODES
        first = make.addon(agent, after)
        self.addons = [first, *(make.addon(item, [first, *after]) for item in others)]
        self.register_outputs({})


class ClusterAddons(pulumi.ComponentResource):
    """What runs on the system nodes: CoreDNS is not active before there is one.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        cluster: the cluster.
        provider: the AWS provider, for the question which versions there are.
        nodes: the system node group.
        opts: must give the same AWS provider.
    """

    addons: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        cluster: Cluster,
        provider: aws.Provider,
        nodes: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:ClusterAddons", name, None, opts)
        make = _Maker(self, name, names, settings, cluster, provider)
        wanted = [*_AFTER_NODES, *([_OBSERVABILITY] if settings.cloudwatch_observability else [])]
        self.addons = [make.addon(item, nodes) for item in wanted]
        self.register_outputs({})


@dataclass(frozen=True)
class _Maker:
    """Makes the add-ons of one component."""

    parent: pulumi.Resource
    prefix: str
    names: Names
    settings: EksSettings
    cluster: Cluster
    provider: aws.Provider

    def addon(self, addon: _Addon, after: Sequence[pulumi.Resource]) -> aws.eks.Addon:
        name = f"{self.prefix}-{addon.name}"
        role: PodRole | None = None
        if addon.service_account is not None:
            role = pod_role(
                self.parent,
                f"{name}-role",
                names=self.names,
                cluster=self.cluster,
                what=addon.name,
                namespace=addon.namespace,
                service_account=addon.service_account,
                managed_policies=addon.policies,
            )
        return aws.eks.Addon(
            name,
            cluster_name=self.cluster.name,
            addon_name=addon.name,
            addon_version=self._version(addon.name),
            configuration_values=json.dumps(addon.configuration) if addon.configuration else None,
            pod_identity_associations=role
            and [{"role_arn": role.arn, "service_account": role.service_account}],
            preserve=addon.preserved or None,
            # Nothing of it is in a new cluster, as that makes none of its own: what is there is somebody
            # else's, and is not taken over unasked. What a deleted add-on preserved is ours.
            resolve_conflicts_on_create="OVERWRITE" if addon.preserved else "NONE",
            # The stack file says how it is: a change by hand does not stop the next version.
            resolve_conflicts_on_update="OVERWRITE",
            opts=child(self.parent, after=[*after, *(role.rights if role else ())], minutes=_MINUTES),
        )

    def _version(self, addon: str) -> pulumi.Output[str]:
        """Return the pinned version, or the default one of the cluster's version: never what AWS likes."""
        pinned = self.settings.addon_versions.get(addon)  # type: ignore[call-overload]  # a name of ours
        kubernetes_version = self.settings.kubernetes_version
        offered = aws.eks.get_addon_version_output(
            addon_name=addon,
            kubernetes_version=kubernetes_version,
            # The newest bounds what a pin may be; the default is what to take without one.
            most_recent=pinned is not None,
            opts=pulumi.InvokeOutputOptions(parent=self.parent, provider=self.provider),
        ).version
        chosen: pulumi.Output[str] = offered.apply(
            lambda found: _chosen(addon, pinned, found, kubernetes_version)
        )
        return chosen


def _chosen(addon: str, pinned: str | None, offered: str | None, kubernetes_version: str) -> str | None:
    if pinned is None or offered is None:
        # None: a preview whose provider cannot be configured yet; the engine answers an invoke with nothing.
        return offered
    if _order(pinned) > _order(offered):
        raise pulumi.RunError(
            f'berth:eks.addon_versions.{addon} = "{pinned}": the region has none newer than "{offered}" for '
            f"Kubernetes {kubernetes_version}"
        )
    return pinned


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
