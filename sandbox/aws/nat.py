"""NAT gateways take their time: pending, then available; deleting, then deleted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.nat_gateways import NatGatewayBackend

from sandbox.aws.cloud import ACCOUNT_ID, Cloud
from sandbox.aws.guards import after

if TYPE_CHECKING:
    from collections.abc import Iterator

_DELAY_SECONDS = 1.0
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


class NatGateways:
    """Moves NAT gateways on to their next state, a moment after they entered the last.

    Args:
        cloud: the account.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._waiting: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        cloud.on_event("ec2.nat-gateway-moved", self._move)
        cloud.on_change(self._look)

    def _look(self) -> None:
        for region, gateway in self._cloud.inside(lambda: list(self._unsettled())):
            with self._guard:
                key = (gateway.id, gateway.state)
                if key in self._waiting:
                    continue
                self._waiting.add(key)
            timer = threading.Timer(_DELAY_SECONDS, self._settle, (region, *key))
            timer.daemon = True
            timer.start()

    def _settle(self, region: str, gateway_id: str, state: str) -> None:
        self._cloud.record("ec2.nat-gateway-moved", region=region, gateway_id=gateway_id, state=state)
        with self._guard:
            self._waiting.discard((gateway_id, state))

    @staticmethod
    def _unsettled() -> Iterator[tuple[str, Any]]:
        for region, ec2 in list(ec2_backends[ACCOUNT_ID].items()):
            for gateway in ec2.nat_gateways.values():
                if gateway.state in _NEXT:
                    yield region, gateway

    @staticmethod
    def _move(region: str, gateway_id: str, state: str) -> None:
        ec2 = ec2_backends[ACCOUNT_ID][region]
        gateway = ec2.nat_gateways[gateway_id]
        if gateway.state != state:
            return
        gateway.state = _NEXT[state]
        if gateway.state == "deleted":
            interface = gateway._eni  # noqa: SLF001
            for address in ec2.addresses:
                if address.eni is interface:
                    address.eni = address.instance = address.association_id = None
            ec2.enis.pop(interface.id, None)
