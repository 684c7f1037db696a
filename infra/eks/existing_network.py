"""Subnets of a VPC that is there already: looked up and checked, never changed."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pulumi
import pulumi_aws as aws

from infra.eks.vpc import ZONES_WITHOUT_CONTROL_PLANE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import ExistingVpcSettings

_KEY = "berth:eks.network.existing"
_CONTROL_PLANE_SUBNETS = 2
_SMALLEST_FOR_LOAD_BALANCER = (
    27  # source: Elastic Load Balancing user guide, "Subnets for your load balancer"
)


@dataclass(frozen=True)
class ExistingNetwork:
    """What a cluster needs to know of a VPC and of its subnets, in the order of the settings."""

    vpc_id: pulumi.Output[str]
    vpc_cidr: pulumi.Output[str]
    node_subnet_ids: list[pulumi.Output[str]]
    node_cidrs: list[pulumi.Output[str]]
    load_balancer_subnet_ids: list[pulumi.Output[str]]
    load_balancer_cidrs: list[pulumi.Output[str]]


class _Kept(NamedTuple):
    id: str
    cidr: str


@dataclass(frozen=True)
class Subnet:
    """What is checked of a subnet, as EC2 describes it; without a VPC where that is not known yet."""

    vpc_id: str | None
    availability_zone: str
    availability_zone_id: str
    cidr_block: str


def look_up(
    settings: ExistingVpcSettings, *, parent: pulumi.Resource, provider: aws.Provider
) -> ExistingNetwork:
    """Return the named VPC and subnets.

    The program ends with an error about the setting where the VPC does not resolve names, where a subnet is
    in another VPC or in the zone of another one of its kind, and where it cannot hold what it is meant for.

    Args:
        settings: the stack file's section `eks.network.existing`.
        parent: the component that asks.
        provider: the AWS provider.
    """
    options = pulumi.InvokeOutputOptions(parent=parent, provider=provider)
    vpc = aws.ec2.get_vpc_output(id=settings.vpc_id, opts=options).apply(_resolving)
    nodes, balancers = (
        pulumi.Output.all(*(aws.ec2.get_subnet_output(id=each, opts=options) for each in ids)).apply(
            functools.partial(_kept, key, settings.vpc_id, ids)
        )
        for key, ids in (
            ("node_subnet_ids", settings.node_subnet_ids),
            ("load_balancer_subnet_ids", settings.load_balancer_subnet_ids),
        )
    )
    node_count, balancer_count = len(settings.node_subnet_ids), len(settings.load_balancer_subnet_ids)
    return ExistingNetwork(
        # Known already, but who uses them must wait for the checks.
        vpc_id=vpc.apply(lambda _: settings.vpc_id),
        vpc_cidr=vpc.cidr_block,
        node_subnet_ids=[nodes[index].id for index in range(node_count)],
        node_cidrs=[nodes[index].cidr for index in range(node_count)],
        load_balancer_subnet_ids=[balancers[index].id for index in range(balancer_count)],
        load_balancer_cidrs=[balancers[index].cidr for index in range(balancer_count)],
    )


def _resolving(vpc: aws.ec2.GetVpcResult) -> aws.ec2.GetVpcResult:
    # Neither is there in a preview whose provider cannot be configured yet.
    require_names(
        vpc.id,
        enableDnsHostnames=vpc.enable_dns_hostnames is not False,
        enableDnsSupport=vpc.enable_dns_support is not False,
    )
    return vpc


def require_names(vpc_id: str, **switches: bool) -> None:
    """Refuse a VPC that does not resolve names.

    Args:
        vpc_id: the VPC.
        switches: its attributes for DNS.

    Raises:
        pulumi.RunError: one of them is off.
    """
    if not all(switches.values()):
        raise pulumi.RunError(
            f"{_KEY}.vpc_id = {vpc_id}: its DNS support and DNS hostnames must be on: machines find the "
            "control plane by a name of the VPC's own"
        )


def _kept(key: str, vpc_id: str, ids: Sequence[str], subnets: list[aws.ec2.GetSubnetResult]) -> list[_Kept]:
    described = [
        Subnet(each.vpc_id, each.availability_zone, each.availability_zone_id, each.cidr_block)
        for each in subnets
    ]
    suitable(key, vpc_id, ids, described)
    return [_Kept(id_, subnet.cidr_block) for id_, subnet in zip(ids, subnets, strict=True)]


def suitable(key: str, vpc_id: str, ids: Sequence[str], subnets: Sequence[Subnet]) -> None:
    """Refuse subnets that are not of the VPC, share a zone, or cannot hold what they are meant for.

    Args:
        key: of the setting that names them.
        vpc_id: the VPC.
        ids: of the subnets.
        subnets: the same, described.

    Raises:
        pulumi.RunError: about the setting.
    """
    zones: dict[str, str] = {}
    for index, (id_, subnet) in enumerate(zip(ids, subnets, strict=True)):
        if subnet.vpc_id is None:
            continue  # a preview whose provider cannot be configured yet
        if subnet.vpc_id != vpc_id:
            raise pulumi.RunError(f"{_KEY}.{key}: {id_} is in {subnet.vpc_id}: must be in {vpc_id}")
        other = zones.setdefault(subnet.availability_zone, id_)
        if other != id_:
            raise pulumi.RunError(
                f"{_KEY}.{key}: {other} and {id_} are both in {subnet.availability_zone}: must be in "
                "different zones"
            )
        if key == "node_subnet_ids":
            _holds_control_plane(key, index, id_, subnet)
        elif ipaddress.IPv4Network(subnet.cidr_block).prefixlen > _SMALLEST_FOR_LOAD_BALANCER:
            raise pulumi.RunError(
                f"{_KEY}.{key}: {id_} is {subnet.cidr_block}: a load balancer wants "
                f"/{_SMALLEST_FOR_LOAD_BALANCER} or larger"
            )


def _holds_control_plane(key: str, index: int, id_: str, subnet: Subnet) -> None:
    if index < _CONTROL_PLANE_SUBNETS and subnet.availability_zone_id in ZONES_WITHOUT_CONTROL_PLANE:
        raise pulumi.RunError(
            f"{_KEY}.{key}: {id_} is in {subnet.availability_zone_id}, which cannot host a control plane: "
            "must not be among the first two"
        )
