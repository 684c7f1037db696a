"""NAT gateways take their time: pending, then available; deleting, then deleted."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.nat_gateways import NatGatewayBackend

from sandbox.aws.cloud import ACCOUNT_ID, Cloud
from sandbox.aws.guards import after
from sandbox.aws.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEXT = {"pending": "available", "deleting": "deleted"}


@after(NatGatewayBackend, "create_nat_gateway")
def _starts_pending(_: Any, gateway: Any, *_args: Any, **_kwargs: Any) -> None:
    gateway.state = "pending"
    interface = gateway._eni  # noqa: SLF001  # moto has no other way to it
    interface.status = "in-use"
    interface.interface_type = "nat_gateway"
    interface.requester_managed = True
    interface.description = f"Interface for NAT Gateway {gateway.id}"


@after(NatGatewayBackend, "delete_nat_gateway")
def _stays_deleting(_: Any, gateway: Any, *_args: Any, **_kwargs: Any) -> None:
    gateway.state = "deleting"


@after(NatGatewayBackend, "describe_nat_gateways")
def _filtered_by_tags(_: Any, found: list[Any], filters: Any, *_args: Any, **_kwargs: Any) -> None:
    """Apply filters by tag, which moto passes over here; their values may hold `*` and `?`."""
    for name, patterns in (filters or {}).items():
        if name.startswith("tag:"):
            key = name.removeprefix("tag:")
            found[:] = [
                gateway
                for gateway in found
                if any(
                    tag["key"] == key and any(fnmatchcase(tag["value"], pattern) for pattern in patterns)
                    for tag in gateway.get_tags()
                )
            ]


def settle_nat_gateways(cloud: Cloud) -> None:
    """Let the account's NAT gateways reach their next state."""
    Settling(cloud, "ec2.nat-gateway-moved", _unsettled, _move)


def _unsettled() -> Iterator[tuple[str, str, str]]:
    for region, ec2 in list(ec2_backends[ACCOUNT_ID].items()):
        for gateway in ec2.nat_gateways.values():
            if gateway.state in _NEXT:
                yield region, gateway.id, gateway.state


def _move(region: str, resource_id: str, state: str) -> None:
    ec2 = ec2_backends[ACCOUNT_ID][region]
    gateway: Any = ec2.nat_gateways[resource_id]
    if gateway.state != state:
        return
    gateway.state = _NEXT[state]
    if gateway.state == "deleted":
        interface = gateway._eni  # noqa: SLF001
        for address in ec2.addresses:
            if address.eni is interface:
                address.eni = address.instance = address.association_id = None
        ec2.enis.pop(interface.id, None)
