"""The EKS control plane and the provider of what runs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.eks import iam
from infra.eks.access import Access
from infra.eks.cluster_version import supported_version
from infra.eks.encryption import SecretsKey
from infra.eks.kubeconfig import kubeconfig
from infra.options import child

if TYPE_CHECKING:
    from infra.eks.control_plane_logs import ControlPlaneLogs
    from infra.eks.network import Network
    from infra.naming import Names
    from infra.settings import EksSettings

_MINUTES = 60  # an upgrade of the version takes longest


class Cluster(pulumi.ComponentResource):
    """A control plane that lets in by access entries only, and keeps Secrets under a key of the stack's.

    Its API can always be reached from the VPC. From elsewhere it can only where `eks.api.allowed_cidrs`
    names networks; without them, `pulumi up` and `pulumi destroy` must run inside the VPC or in a network
    joined to it, for everything in the cluster goes through that API.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        network: where the control plane has its addresses.
        logs: the log group that it writes to, and the name that it has by it.
        region: AWS's region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        provider: the AWS provider, for the question which versions there are.
        caller_arn: the principal that deploys now.
        opts: must give the same AWS provider.
    """

    cluster: aws.eks.Cluster
    name: pulumi.Output[str]
    version: pulumi.Output[str]
    """Of Kubernetes; known before the cluster is there."""
    security_group_id: pulumi.Output[str]
    """EKS's own security group of the control plane and of every node."""
    kubeconfig: pulumi.Output[str]
    """Secret; asks `aws eks get-token` for every session, so it holds no credentials and does not expire."""
    provider: kubernetes.Provider
    """Outlives what it makes, and goes before the access it uses."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        network: Network,
        logs: ControlPlaneLogs,
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        provider: aws.Provider,
        caller_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Cluster", name, None, opts)
        role, attachments = iam.role(
            self,
            f"{name}-role",
            names=names,
            what="cluster",
            service="eks.amazonaws.com",
            policies=["AmazonEKSClusterPolicy"],
        )
        key = SecretsKey(f"{name}-secrets", names=names, settings=settings, opts=child(self))
        self.version = supported_version(settings.kubernetes_version, parent=self, provider=provider)
        is_public = bool(settings.api.allowed_cidrs)
        self.cluster = aws.eks.Cluster(
            f"{name}-control-plane",
            name=logs.cluster_name,
            version=self.version,
            role_arn=role.arn,
            vpc_config={
                "subnet_ids": network.control_plane_subnet_ids,
                "endpoint_private_access": True,
                "endpoint_public_access": is_public,
                **({"public_access_cidrs": list(settings.api.allowed_cidrs)} if is_public else {}),
            },
            # The creator gets an entry of ours like everyone else; EKS's own could not be taken away later.
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": False,
            },
            # EKS encrypts what it stores in any case: this key is the stack's own to take back.
            encryption_config={"provider": {"key_arn": key.arn}, "resources": ["secrets"]},
            # Add-ons are ours, in our order.
            bootstrap_self_managed_addons=False,
            # The default, EXTENDED, stays on an old version at six times the price.
            upgrade_policy={"support_type": "STANDARD"},
            enabled_cluster_log_types=sorted(settings.control_plane_logs),
            deletion_protection=settings.deletion_protection,
            opts=child(
                self,
                # Not the network's routes: NAT comes up beside the control plane, which needs none.
                after=[*attachments, logs.group],
                minutes=_MINUTES,
                # AWS would refuse too, but only after everything in the cluster is gone.
                protect=settings.deletion_protection,
            ),
        )
        self.name = self.cluster.name
        self.security_group_id = self.cluster.vpc_config.cluster_security_group_id
        access = Access(
            name, settings=settings, cluster_name=self.cluster.name, caller_arn=caller_arn, opts=child(self)
        )
        self.kubeconfig = kubeconfig(self.cluster, logs.cluster_name, region=region, endpoint=endpoint)
        self.provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # With it, a kubeconfig that reads differently does not replace everything in the cluster; another
            # cluster has another name, and does.
            cluster_identifier=logs.cluster_name,
            opts=child(self, after=access.administrators),
        )
        self.register_outputs({"name": self.name, "kubeconfig": self.kubeconfig})
