"""The log group of the control plane, which is there before the cluster and goes long after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import EksSettings


class ControlPlaneLogs(pulumi.ComponentResource):
    """A log group of ours with a retention: EKS would make one that never expires and is never deleted.

    EKS writes into the group that bears the cluster's name, so the name is decided here. A control plane
    sends its last lines after its deletion, and EKS makes the group again where it is gone by then: the
    network comes after this group, so that on the way down minutes pass between the two.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        opts: must give an AWS provider.
    """

    cluster_name: str
    """Changes with the VPC, which EKS cannot change in place: the new cluster stands beside the old one."""
    group: aws.cloudwatch.LogGroup

    def __init__(
        self, name: str, *, names: Names, settings: EksSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("berth:eks:ControlPlaneLogs", name, None, opts)
        self.cluster_name = names.of_version("cluster", settings.network.vpc_identity)
        self.group = aws.cloudwatch.LogGroup(
            f"{name}-group",
            name=f"/aws/eks/{self.cluster_name}/cluster",
            retention_in_days=settings.log_retention_days,
            opts=child(self),
        )
        self.register_outputs({"group": self.group.name})
