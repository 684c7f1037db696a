"""The cluster's network: a VPC of its own, or subnets of one that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

from infra.eks import existing_network
from infra.eks.endpoints import InterfaceEndpoints
from infra.eks.flow_logs import FlowLogs
from infra.eks.vpc import Vpc
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pulumi_aws as aws

    from infra.naming import Names
    from infra.settings import EksSettings


class Network(pulumi.ComponentResource):
    """Where machines, the control plane and the load balancer stand.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        region: AWS's region.
        provider: the AWS provider, for questions about zones, the VPC and its subnets.
        after: what must be there before the VPC, and may go only when it is gone.
        opts: must give the same AWS provider.
    """

    vpc_id: pulumi.Output[str]
    vpc_cidr: pulumi.Input[str]
    node_subnet_ids: list[pulumi.Output[str]]
    """One for each zone, in the zones' order."""
    node_cidrs: list[pulumi.Input[str]]
    control_plane_subnet_ids: list[pulumi.Output[str]]
    """Of the first two zones alone: EKS needs two, and refuses to go to others later."""
    load_balancer_subnet_ids: list[pulumi.Output[str]]
    load_balancer_cidrs: list[pulumi.Input[str]]
    """Where nobody stands but the load balancer."""
    subnets: list[pulumi.Resource]
    """What network interfaces keep from being deleted; none in a VPC that somebody else keeps."""
    routes: list[pulumi.Resource]
    """What machines and the load balancer need to reach anything: it must outlive them."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        region: pulumi.Input[str],
        provider: aws.Provider,
        after: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Network", name, None, opts)
        network = settings.network
        if network.existing is not None:
            found = existing_network.look_up(network.existing, parent=self, provider=provider)
            self.vpc_id, self.vpc_cidr = found.vpc_id, found.vpc_cidr
            self.node_subnet_ids, self.node_cidrs = found.node_subnet_ids, [*found.node_cidrs]
            self.load_balancer_subnet_ids = found.load_balancer_subnet_ids
            self.load_balancer_cidrs = [*found.load_balancer_cidrs]
            self.subnets, self.routes = [], []
        else:
            own = Vpc(
                name,
                names=names,
                settings=network,
                public_load_balancer=not settings.load_balancer.internal,
                region=region,
                provider=provider,
                after=after,
                opts=child(self),
            )
            self.vpc_id, self.vpc_cidr = own.vpc.id, network.vpc_cidr
            self.node_subnet_ids = [subnet.id for subnet in own.node_subnets]
            self.node_cidrs = [*own.node_cidrs]
            self.load_balancer_subnet_ids = [subnet.id for subnet in own.load_balancer_subnets]
            self.load_balancer_cidrs = [*own.load_balancer_cidrs]
            self.subnets, self.routes = own.subnets, own.routes
            if network.interface_endpoints:
                self.routes += InterfaceEndpoints(
                    f"{name}-endpoints",
                    names=names,
                    region=region,
                    vpc_id=self.vpc_id,
                    vpc_cidr=self.vpc_cidr,
                    subnet_ids=self.node_subnet_ids,
                    opts=child(self),
                ).endpoints
            if network.flow_logs is not None:
                FlowLogs(
                    f"{name}-flow-logs",
                    names=names,
                    settings=network.flow_logs,
                    retention_days=settings.log_retention_days,
                    vpc=own.vpc,
                    opts=child(self),
                )
        self.control_plane_subnet_ids = self.node_subnet_ids[:2]
        self.register_outputs({"vpcId": self.vpc_id})
