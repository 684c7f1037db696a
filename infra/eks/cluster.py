"""The EKS control plane, who may use it, and the kubeconfig to do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.eks import iam
from infra.options import child

if TYPE_CHECKING:
    from infra.eks.network import Network
    from infra.naming import Names
    from infra.settings import EksSettings

_ADMIN_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
_CLUSTER_MINUTES = 40


class Cluster(pulumi.ComponentResource):
    """A control plane that lets in by access entries only: whoever deploys, and the named administrators.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        network: where the control plane has its addresses.
        region: AWS's region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        deployer_arn: the principal that deploys.
        opts: must give an AWS provider.
    """

    cluster: aws.eks.Cluster
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
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        deployer_arn: pulumi.Input[str],
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
        # Ours, and there before the cluster: EKS would make one that is never deleted and never expires.
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/eks/{names.base}/cluster",
            retention_in_days=settings.log_retention_days,
            opts=child(self, delete_before_replace=True),
        )
        self.cluster = aws.eks.Cluster(
            f"{name}-control-plane",
            name=names.base,
            version=settings.kubernetes_version,
            role_arn=role.arn,
            vpc_config={
                "subnet_ids": [subnet.id for subnet in network.node_subnets],
                "endpoint_private_access": True,
                "endpoint_public_access": True,
                "public_access_cidrs": list(settings.api_allowed_cidrs),
            },
            # The creator gets an entry of ours like everyone else; EKS's own could not be taken away later.
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": False,
            },
            # Add-ons are ours, in our order.
            bootstrap_self_managed_addons=False,
            # The default, EXTENDED, stays on an old version at six times the price.
            upgrade_policy={"support_type": "STANDARD"},
            enabled_cluster_log_types=sorted(settings.control_plane_logs),
            deletion_protection=settings.deletion_protection,
            opts=child(
                self,
                after=[*attachments, logs, *network.routes],
                minutes=_CLUSTER_MINUTES,
                # AWS would refuse too, but only after everything in the cluster is gone.
                protect=settings.deletion_protection,
            ),
        )
        self.security_group_id = self.cluster.vpc_config.cluster_security_group_id
        admins = settings.admin_principal_arns
        deployer = self._admit(
            f"{name}-deployer",
            pulumi.Output.from_input(deployer_arn).apply(lambda arn: _not_among(arn, admins)),
        )
        for arn in admins:
            account_and_name = arn.removeprefix("arn:aws:iam::").replace(":", "-")
            self._admit(f"{name}-admin-{account_and_name}", arn)
        self.kubeconfig = pulumi.Output.secret(
            pulumi.Output.json_dumps(
                _kubeconfig(
                    names.base,
                    server=self.cluster.endpoint,
                    authority=self.cluster.certificate_authority.data,
                    region=region,
                    endpoint=endpoint,
                )
            )
        )
        self.provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # With it, a kubeconfig that reads differently does not replace everything in the cluster.
            cluster_identifier=names.base,
            opts=child(self, after=[deployer]),
        )
        self.register_outputs({"name": self.cluster.name, "kubeconfig": self.kubeconfig})

    def _admit(self, name: str, principal_arn: pulumi.Input[str]) -> aws.eks.AccessPolicyAssociation:
        entry = aws.eks.AccessEntry(
            name,
            cluster_name=self.cluster.name,
            principal_arn=principal_arn,
            type="STANDARD",
            opts=child(self, minutes=20, delete_before_replace=True),
        )
        return aws.eks.AccessPolicyAssociation(
            name,
            cluster_name=self.cluster.name,
            principal_arn=entry.principal_arn,
            policy_arn=_ADMIN_POLICY,
            access_scope={"type": "cluster"},
            opts=child(self, after=[entry], minutes=20, delete_before_replace=True),
        )


def _not_among(deployer_arn: str, admin_arns: tuple[str, ...]) -> str:
    if deployer_arn in admin_arns:
        raise pulumi.RunError(
            f"berth:eks.admin_principal_arns has {deployer_arn}, which deploys and so gets in anyway: take "
            "it out of the list"
        )
    return deployer_arn


def _kubeconfig(
    cluster: str,
    *,
    server: pulumi.Input[str],
    authority: pulumi.Input[str],
    region: pulumi.Input[str],
    endpoint: pulumi.Input[str] | None,
) -> dict[str, object]:
    user: dict[str, object] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", cluster, "--region", region, "--output", "json"],
    }
    if endpoint is not None:
        user["env"] = [{"name": "AWS_ENDPOINT_URL", "value": endpoint}]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "users": [{"name": cluster, "user": {"exec": user}}],
    }
