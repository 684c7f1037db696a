"""Ways from the VPC to AWS's own services that need neither NAT nor the internet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.naming import Names

# What machines and pods call all the time: image manifests and logins, roles of pods, logs.
_SERVICES = ("ecr.api", "ecr.dkr", "sts", "logs")
_MINUTES = 20


class InterfaceEndpoints(pulumi.ComponentResource):
    """Interface endpoints under the services' own names, which everything in the VPC may use.

    Args:
        name: the logical name.
        names: the stack's names.
        region: AWS's region.
        vpc_id: the VPC; it resolves names.
        vpc_cidr: its network.
        subnet_ids: where the endpoints have their addresses, one subnet of each zone.
        opts: must give an AWS provider.
    """

    endpoints: list[pulumi.Resource]
    """What machines reach the services by: it must outlive them."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        region: pulumi.Input[str],
        vpc_id: pulumi.Input[str],
        vpc_cidr: pulumi.Input[str],
        subnet_ids: Sequence[pulumi.Input[str]],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:InterfaceEndpoints", name, None, opts)
        group = aws.ec2.SecurityGroup(
            f"{name}-group",
            name=names.of("endpoints"),
            description="Endpoints of AWS's services in the VPC.",
            vpc_id=vpc_id,
            tags={"Name": names.of("endpoints")},
            opts=child(self, minutes=_MINUTES),
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-vpc",
            security_group_id=group.id,
            description="HTTPS from the VPC",
            cidr_ipv4=vpc_cidr,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=child(self),
        )
        self.endpoints = [
            rule,
            *(
                aws.ec2.VpcEndpoint(
                    f"{name}-{service.replace('.', '-')}",
                    vpc_id=vpc_id,
                    service_name=pulumi.Output.concat("com.amazonaws.", region, ".", service),
                    vpc_endpoint_type="Interface",
                    private_dns_enabled=True,
                    subnet_ids=list(subnet_ids),
                    security_group_ids=[group.id],
                    tags={"Name": names.of(service.replace(".", "-"))},
                    opts=child(self, minutes=_MINUTES),
                )
                for service in _SERVICES
            ),
        ]
        self.register_outputs({})
