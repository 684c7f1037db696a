"""A VPC of the stack's own: its subnets in several zones, and their ways out."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child
from infra.settings.eks_network import LOAD_BALANCER_SUBNET_PREFIX, MOST_ZONES, SUBNET_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.naming import Names
    from infra.settings import NetworkSettings

ZONES_WITHOUT_CONTROL_PLANE = ("use1-az3", "usw1-az2", "cac1-az3")
"""Ids of zones that cannot host a control plane; source: EKS user guide, "View network requirements"."""

_MINUTES = 20  # AWS lets go of network interfaces in its own time
_ROUTE_MINUTES = 10


class Vpc(pulumi.ComponentResource):
    """A VPC with subnets for the load balancer, public ones, and private ones where there is NAT.

    Where a subnet lies in the network depends on nothing but its kind and its zone, so that more zones or
    NAT leave those that are there as they are.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.network`.
        public_load_balancer: whether the load balancer's subnets have a way to the internet.
        region: AWS's region.
        provider: the AWS provider, for the question which zones there are.
        after: what must be there before the VPC, and may go only when it is gone.
        opts: must give the same AWS provider.
    """

    vpc: aws.ec2.Vpc
    node_subnets: list[aws.ec2.Subnet]
    """By zone: private where there is a way out of there, else public."""
    node_cidrs: list[str]
    load_balancer_subnets: list[aws.ec2.Subnet]
    load_balancer_cidrs: list[str]
    subnets: list[pulumi.Resource]
    routes: list[pulumi.Resource]
    """What machines in the subnets need to reach anything."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: NetworkSettings,
        public_load_balancer: bool,
        region: pulumi.Input[str],
        provider: aws.Provider,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Vpc", name, None, opts)
        self._name, self._names = name, names
        self.subnets, self.routes = [], []
        self.vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=settings.vpc_cidr,
            # Both: machines find the control plane and the endpoints by names of the VPC's own.
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": names.base},
            opts=child(self, after=after, minutes=_MINUTES),
        )
        self._internet = aws.ec2.InternetGateway(
            f"{name}-internet",
            vpc_id=self.vpc.id,
            tags={"Name": names.base},
            # AWS's provider would move it to another VPC, and cannot while anything has an address here.
            opts=pulumi.ResourceOptions.merge(
                child(self, minutes=_MINUTES), pulumi.ResourceOptions(replace_on_changes=["vpcId"])
            ),
        )
        self._zones = aws.get_availability_zones_output(
            state="available",
            exclude_zone_ids=list(ZONES_WITHOUT_CONTROL_PLANE),
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=pulumi.InvokeOutputOptions(parent=self, provider=provider),
        ).names.apply(lambda found: _enough(found, settings.zones))
        blocks = [
            str(block) for block in ipaddress.IPv4Network(settings.vpc_cidr).subnets(new_prefix=SUBNET_PREFIX)
        ]
        self._tables: list[aws.ec2.RouteTable] = []

        public_table = self._table("public")
        way_out = self._route("public-internet", public_table, gateway_id=self._internet.id)
        public_cidrs = blocks[: settings.zones]
        public = [
            self._subnet(f"public-{index}", index, cidr, public_table, for_machines=settings.nat == "none")
            for index, cidr in enumerate(public_cidrs)
        ]
        self.node_subnets, self.node_cidrs = public, public_cidrs
        if settings.nat != "none":
            count = settings.zones if settings.nat == "per_zone" else 1
            gateways = [self._nat(index, public[index], way_out) for index in range(count)]
            self.node_cidrs = blocks[MOST_ZONES : MOST_ZONES + settings.zones]
            self.node_subnets = [
                self._private_subnet(index, cidr, gateways[index % count])
                for index, cidr in enumerate(self.node_cidrs)
            ]

        table = self._table("load-balancer")
        if public_load_balancer:
            self._route("load-balancer-internet", table, gateway_id=self._internet.id)
        small = ipaddress.IPv4Network(blocks[-1]).subnets(new_prefix=LOAD_BALANCER_SUBNET_PREFIX)
        self.load_balancer_cidrs = [str(next(small)) for _ in range(settings.zones)]
        self.load_balancer_subnets = [
            self._subnet(f"load-balancer-{index}", index, cidr, table, for_machines=False)
            for index, cidr in enumerate(self.load_balancer_cidrs)
        ]
        # Layers of images and weights come from S3: through the gateway they cost nothing and pass no NAT.
        self.routes.append(
            aws.ec2.VpcEndpoint(
                f"{name}-s3",
                vpc_id=self.vpc.id,
                service_name=pulumi.Output.concat("com.amazonaws.", region, ".s3"),
                vpc_endpoint_type="Gateway",
                route_table_ids=[each.id for each in self._tables],
                tags={"Name": names.of("s3")},
                opts=child(self, minutes=_MINUTES),
            )
        )
        self.register_outputs({"vpcId": self.vpc.id})

    def _table(self, what: str) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(
            f"{self._name}-{what}",
            vpc_id=self.vpc.id,
            tags={"Name": self._names.of(what)},
            opts=child(self, minutes=_ROUTE_MINUTES),
        )
        self._tables.append(table)
        return table

    def _route(self, what: str, table: aws.ec2.RouteTable, **target: pulumi.Input[str]) -> aws.ec2.Route:
        route = aws.ec2.Route(
            f"{self._name}-{what}",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            **target,
            opts=child(self, minutes=_ROUTE_MINUTES),
        )
        self.routes.append(route)
        return route

    def _subnet(
        self, what: str, index: int, cidr: str, table: aws.ec2.RouteTable, *, for_machines: bool
    ) -> aws.ec2.Subnet:
        subnet = aws.ec2.Subnet(
            f"{self._name}-{what}",
            vpc_id=self.vpc.id,
            availability_zone=self._zones.apply(lambda found: found[index]),
            cidr_block=cidr,
            # Without NAT, the machines themselves need addresses of the internet.
            map_public_ip_on_launch=for_machines,
            tags={"Name": self._names.of(what)},
            # A zone that opens, or that is out for an hour, moves the others in the list, and no subnet.
            opts=child(self, minutes=_MINUTES, ignore_changes=["availabilityZone"]),
        )
        self.subnets.append(subnet)
        self.routes.append(
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{what}",
                subnet_id=subnet.id,
                route_table_id=table.id,
                opts=child(self, minutes=_ROUTE_MINUTES),
            )
        )
        return subnet

    def _private_subnet(self, index: int, cidr: str, gateway: aws.ec2.NatGateway) -> aws.ec2.Subnet:
        table = self._table(f"private-{index}")
        self._route(f"private-{index}-nat", table, nat_gateway_id=gateway.id)
        return self._subnet(f"private-{index}", index, cidr, table, for_machines=False)

    def _nat(self, index: int, subnet: aws.ec2.Subnet, way_out: aws.ec2.Route) -> aws.ec2.NatGateway:
        tags = {"Name": self._names.of(f"nat-{index}")}
        address = aws.ec2.Eip(
            f"{self._name}-nat-{index}",
            domain="vpc",
            tags=tags,
            # An address of the internet needs the way there: AWS refuses to take the gateway before it.
            opts=child(self, after=[self._internet], minutes=_ROUTE_MINUTES),
        )
        return aws.ec2.NatGateway(
            f"{self._name}-nat-{index}",
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags=tags,
            # It holds the address: another one gets it when this one is gone.
            opts=child(self, after=[self._internet, way_out], minutes=_MINUTES, delete_before_replace=True),
        )


def _enough(found: list[str] | None, wanted: int) -> list[str | None]:
    if found is None:
        # A preview whose provider cannot be configured yet: the engine answers an invoke with nothing.
        return [None] * wanted
    if len(found) < wanted:
        raise pulumi.RunError(
            f"berth:eks.network.zones = {wanted}: the region has {len(found)} zones for a cluster"
        )
    return [*sorted(found)[:wanted]]
