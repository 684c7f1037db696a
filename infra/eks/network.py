"""The cluster's network: a VPC over several zones, with or without private subnets behind NAT."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child
from infra.settings.sections import SUBNET_PREFIX

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import NetworkSettings

# Zones that cannot host an EKS control plane; source: EKS user guide, "View network requirements".
_ZONES_WITHOUT_CONTROL_PLANE = ("use1-az3", "usw1-az2", "cac1-az3")
_DELETE_MINUTES = 20  # AWS lets go of network interfaces in its own time


class Network(pulumi.ComponentResource):
    """A VPC with a public and, where there is NAT, a private subnet in each zone.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.network`.
        region: AWS's region.
        provider: the AWS provider, for the question which zones there are.
        opts: must give the same AWS provider.
    """

    vpc: aws.ec2.Vpc
    public_subnets: list[aws.ec2.Subnet]
    private_subnets: list[aws.ec2.Subnet]
    routes: list[pulumi.Resource]
    """What machines in the subnets need to reach anything: it must outlive them."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: NetworkSettings,
        region: pulumi.Input[str],
        provider: aws.Provider,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Network", name, None, opts)
        self._name, self._names, self._settings = name, names, settings
        self.routes = []
        self.vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=settings.vpc_cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": names.base},
            opts=child(self, minutes=_DELETE_MINUTES),
        )
        gateway = aws.ec2.InternetGateway(
            f"{name}-internet",
            vpc_id=self.vpc.id,
            tags={"Name": names.base},
            opts=child(self, minutes=_DELETE_MINUTES),
        )
        zones = aws.get_availability_zones_output(
            state="available",
            exclude_zone_ids=list(_ZONES_WITHOUT_CONTROL_PLANE),
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=pulumi.InvokeOutputOptions(parent=self, provider=provider),
        ).names.apply(lambda found: _enough(found, settings.zones))
        blocks = list(ipaddress.IPv4Network(settings.vpc_cidr).subnets(new_prefix=SUBNET_PREFIX))
        public_blocks, private_blocks = blocks[: settings.zones], blocks[settings.zones :]

        public_table = self._table("public")
        self.routes.append(
            aws.ec2.Route(
                f"{name}-public-internet",
                route_table_id=public_table.id,
                destination_cidr_block="0.0.0.0/0",
                gateway_id=gateway.id,
                opts=child(self, minutes=10),
            )
        )
        tables = [public_table]
        self.public_subnets = [
            self._subnet(f"public-{index}", zones, index, str(public_blocks[index]), public_table)
            for index in range(settings.zones)
        ]
        self.private_subnets = []
        if settings.nat != "none":
            gateways = [
                self._nat(index, gateway, self.public_subnets[index])
                for index in range(settings.zones if settings.nat == "per_zone" else 1)
            ]
            for index in range(settings.zones):
                table = self._table(f"private-{index}")
                tables.append(table)
                self.routes.append(
                    aws.ec2.Route(
                        f"{name}-private-{index}-nat",
                        route_table_id=table.id,
                        destination_cidr_block="0.0.0.0/0",
                        nat_gateway_id=gateways[index % len(gateways)].id,
                        opts=child(self, minutes=10),
                    )
                )
                self.private_subnets.append(
                    self._subnet(f"private-{index}", zones, index, str(private_blocks[index]), table)
                )
        # Layers of images and weights come from S3: through the gateway they cost nothing and pass no NAT.
        self.routes.append(
            aws.ec2.VpcEndpoint(
                f"{name}-s3",
                vpc_id=self.vpc.id,
                service_name=pulumi.Output.concat("com.amazonaws.", region, ".s3"),
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id for table in tables],
                tags={"Name": names.of("s3")},
                opts=child(self, minutes=_DELETE_MINUTES),
            )
        )
        self.register_outputs({"vpcId": self.vpc.id})

    @property
    def node_subnets(self) -> list[aws.ec2.Subnet]:
        """Where machines stand: private where there is a way out of there."""
        return self.private_subnets or self.public_subnets

    def _table(self, what: str) -> aws.ec2.RouteTable:
        return aws.ec2.RouteTable(
            f"{self._name}-{what}",
            vpc_id=self.vpc.id,
            tags={"Name": self._names.of(what)},
            opts=child(self, minutes=10),
        )

    def _subnet(
        self,
        what: str,
        zones: pulumi.Output[list[str]],
        index: int,
        block: str,
        table: aws.ec2.RouteTable,
    ) -> aws.ec2.Subnet:
        subnet = aws.ec2.Subnet(
            f"{self._name}-{what}",
            vpc_id=self.vpc.id,
            availability_zone=zones.apply(lambda found: found[index]),
            cidr_block=block,
            # Without NAT, the machines themselves need addresses of the internet.
            map_public_ip_on_launch=self._settings.nat == "none",
            tags={"Name": self._names.of(what)},
            opts=child(self, minutes=_DELETE_MINUTES),
        )
        self.routes.append(
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{what}",
                subnet_id=subnet.id,
                route_table_id=table.id,
                opts=child(self, minutes=10),
            )
        )
        return subnet

    def _nat(
        self, index: int, gateway: aws.ec2.InternetGateway, subnet: aws.ec2.Subnet
    ) -> aws.ec2.NatGateway:
        tags = {"Name": self._names.of(f"nat-{index}")}
        address = aws.ec2.Eip(
            f"{self._name}-nat-{index}",
            domain="vpc",
            tags=tags,
            # An address of the internet needs the way there: AWS refuses to take the gateway before it.
            opts=child(self, after=[gateway], minutes=10),
        )
        return aws.ec2.NatGateway(
            f"{self._name}-nat-{index}",
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags=tags,
            # Its own way out is the public subnet's route.
            opts=child(self, after=[gateway, *self.routes[:1]], minutes=_DELETE_MINUTES),
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
