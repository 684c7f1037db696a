"""Who may use the cluster's Kubernetes API: access entries, and nothing inside the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from infra.settings import EksSettings

# Source: EKS user guide, "Review access policy permissions". The view leaves out Secrets, and so the API key.
_POLICY = "arn:aws:eks::aws:cluster-access-policy/"
_ADMIN = f"{_POLICY}AmazonEKSClusterAdminPolicy"
_VIEW = f"{_POLICY}AmazonEKSViewPolicy"
_MINUTES = 20


class Access(pulumi.ComponentResource):
    """Entries for whoever deploys, for administrators and for those who look.

    A principal has one entry in a cluster, so an entry is named after its principal and not after what it
    may do: whoever moves from one list to another keeps it. Only who deploys without being named in the
    settings has one by the name of the part. None is deleted before its successor is there: where the
    cluster is another one, what is in the old one is still to be deleted.

    Args:
        name: the logical name.
        settings: the stack file's section `eks`.
        cluster_name: the cluster.
        caller_arn: the principal that deploys now.
        opts: must give an AWS provider.
    """

    administrators: list[pulumi.Resource]
    """What whoever uses the Kubernetes API must wait for, and must be done before it goes."""

    def __init__(
        self,
        name: str,
        *,
        settings: EksSettings,
        cluster_name: pulumi.Input[str],
        caller_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Access", name, None, opts)
        self._name, self._cluster_name = name, cluster_name
        deployer_arn = pulumi.Output.from_input(caller_arn).apply(lambda arn: _deployer(arn, settings))
        if settings.deployer_principal_arn is None:
            deployer = self._admit("deployer", deployer_arn, _ADMIN)
        else:
            # Named at last, who deployed before keeps the entry that is there.
            what = _named(settings.deployer_principal_arn)
            deployer = self._admit(what, deployer_arn, _ADMIN, formerly="deployer")
        self.administrators = [
            deployer,
            *(self._admit(_named(arn), arn, _ADMIN) for arn in settings.admin_principal_arns),
        ]
        for arn in settings.viewer_principal_arns:
            self._admit(_named(arn), arn, _VIEW)
        self.register_outputs({})

    def _admit(
        self, what: str, principal_arn: pulumi.Input[str], policy_arn: str, *, formerly: str | None = None
    ) -> aws.eks.AccessPolicyAssociation:
        aliases = [] if formerly is None else [pulumi.Alias(name=f"{self._name}-{formerly}")]

        def options(*after: pulumi.Resource) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions.merge(
                child(self, after=after, minutes=_MINUTES),
                pulumi.ResourceOptions(aliases=aliases),
            )

        entry = aws.eks.AccessEntry(
            f"{self._name}-{what}",
            cluster_name=self._cluster_name,
            principal_arn=principal_arn,
            type="STANDARD",
            opts=options(),
        )
        return aws.eks.AccessPolicyAssociation(
            f"{self._name}-{what}",
            cluster_name=self._cluster_name,
            principal_arn=entry.principal_arn,
            policy_arn=policy_arn,
            access_scope={"type": "cluster"},
            opts=options(entry),
        )


def _named(arn: str) -> str:
    """Return an ARN's account and name as a part of a logical name: the same name is there in others."""
    return arn.removeprefix("arn:aws:iam::").replace(":", "-")


def _deployer(caller_arn: str, settings: EksSettings) -> str:
    """Return who gets in to deploy; end the program where the caller would not get in, or twice."""
    named, admins = settings.deployer_principal_arn, settings.admin_principal_arns
    if named is not None:
        if caller_arn not in (named, *admins):
            raise pulumi.RunError(
                f"berth:eks.deployer_principal_arn = {named}, and {caller_arn} deploys, whom the cluster "
                "would not let in: take that role, or name yours in berth:eks.admin_principal_arns"
            )
        return named
    for key in ("admin_principal_arns", "viewer_principal_arns"):
        if caller_arn in getattr(settings, key):
            raise pulumi.RunError(
                f"berth:eks.{key} has {caller_arn}, which deploys: name it as "
                "berth:eks.deployer_principal_arn instead, for a principal has one entry in a cluster"
            )
    return caller_arn
