"""Settings of the cluster's network: one of its own, or subnets of a VPC that is there already."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field

from infra.settings.vocabulary import Allowed, Cidrs, Flag, Section, SubnetIds, VpcCidr, VpcId

SUBNET_PREFIX = 22
"""The size of a subnet of machines: 1019 addresses, for every pod has one."""

MOST_ZONES = 3

LOAD_BALANCER_SUBNET_PREFIX = 26
"""The size of a subnet of the load balancer alone. AWS wants /27 or larger, and 8 addresses free."""


_PRIVATE_NETWORKS = tuple(
    ipaddress.IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)


class ExistingVpcSettings(Section):
    """A VPC that somebody else keeps: nothing in it is changed but what stands in the named subnets.

    The load balancer has subnets of its own there too: the network policy lets in who stands in them.
    """

    vpc_id: VpcId
    node_subnet_ids: Annotated[SubnetIds, Field(min_length=2, max_length=3)]
    load_balancer_subnet_ids: Annotated[SubnetIds, Field(min_length=2, max_length=3)]

    def problems(self) -> list[tuple[str, str]]:
        """Return subnets that are named twice, or would hold both machines and the load balancer."""
        both = sorted(set(self.node_subnet_ids) & set(self.load_balancer_subnet_ids))
        found = [
            ("load_balancer_subnet_ids", f"has {subnet}, which node_subnet_ids has too: must be others")
            for subnet in both
        ]
        for key in ("node_subnet_ids", "load_balancer_subnet_ids"):
            ids: tuple[str, ...] = getattr(self, key)
            if len(set(ids)) < len(ids):
                found.append((key, "has a subnet twice: must name each once, in different zones"))
        return found


class FlowLogSettings(Section):
    """Records of the VPC's traffic, in CloudWatch Logs."""

    traffic: Literal["ALL", "ACCEPT", "REJECT"] = "REJECT"


class NetworkSettings(Section):
    """The cluster's own network, unless `existing` names another."""

    existing: ExistingVpcSettings | None = None
    vpc_cidr: VpcCidr = "10.64.0.0/16"
    zones: Annotated[int, Field(ge=2, le=MOST_ZONES), Allowed("2 or 3 availability zones")] = 2
    nat: Literal["none", "single", "per_zone"] = "single"
    interface_endpoints: Flag = Field(
        default=False, description="reach ECR, STS and CloudWatch Logs without NAT: billed by the hour"
    )
    flow_logs: FlowLogSettings | None = None

    @property
    def vpc_identity(self) -> str:
        """What another VPC comes with a change of, and with it all that cannot move from VPC to VPC."""
        return self.existing.vpc_id if self.existing else self.vpc_cidr

    def problems(self) -> list[tuple[str, str]]:
        """Return a network that is too small for its subnets, and settings of one that is not ours."""
        if self.existing is not None:
            ours = self.model_fields_set - {"existing"}
            return [
                (key, "goes with a VPC of the stack's own, and existing names one") for key in sorted(ours)
            ]
        length = ipaddress.IPv4Network(self.vpc_cidr).prefixlen
        # One more of that size holds the small subnets of the load balancer in all zones.
        needed = self.zones * (1 if self.nat == "none" else 2) + 1
        there: int = 2 ** (SUBNET_PREFIX - length)
        if needed <= there:
            return []
        return [
            (
                "vpc_cidr",
                (
                    f'= "{self.vpc_cidr}" has room for {there} subnets of /{SUBNET_PREFIX}, and {self.zones} '
                    f'zones with nat "{self.nat}" need {needed}: must be /{length - 1} or larger'
                ),
            )
        ]


class ApiSettings(Section):
    """From where the cluster's API can be reached; from its own network it always can."""

    allowed_cidrs: Cidrs = Field(
        description="empty: from nowhere else, and so only from a network joined to it"
    )

    def problems(self) -> list[tuple[str, str]]:
        """Return networks that are the whole internet, and those that are no part of it."""
        if "0.0.0.0/0" in self.allowed_cidrs:
            return [("allowed_cidrs", 'has "0.0.0.0/0": must name networks')]
        return [
            (
                "allowed_cidrs",
                (
                    f'has "{cidr}": must be of the internet, for EKS refuses {private} here; a network that '
                    "is joined to the VPC reaches the API without being named"
                ),
            )
            for cidr in self.allowed_cidrs
            for private in _PRIVATE_NETWORKS
            if ipaddress.IPv4Network(cidr).overlaps(private)
        ]
