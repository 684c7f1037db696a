"""Reads Services and their EndpointSlices as kube-proxy does: where a connection may go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.addresses import to_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.kubernetes.node.api import Object
    from sandbox.kubernetes.node.relay import Endpoint

_SERVICE_NAME = "kubernetes.io/service-name"


@dataclass
class Endpoints:
    """The endpoints of a Service.

    Args:
        ready: those that take requests.
        ending: those that are terminating and still serve.
    """

    ready: set[Endpoint] = field(default_factory=set)
    ending: set[Endpoint] = field(default_factory=set)

    def usable(self) -> list[Endpoint]:
        """Return where connections go: to ready pods, for want of them to those that still serve."""
        return sorted(self.ready or self.ending)


def endpoints(
    slices: Iterable[Object], namespace: str, service: str, *, port: str | None, node: str | None
) -> Endpoints:
    """Return a Service's endpoints.

    Args:
        slices: all EndpointSlices.
        namespace: the Service's.
        service: its name.
        port: the name of its port ("" for one without a name); None for endpoints whatever their ports, which
            then are 0.
        node: only the pods of this node; None for all.
    """
    found = Endpoints()
    for part in slices:
        metadata = part["metadata"]
        if metadata["namespace"] != namespace or (metadata.get("labels") or {}).get(_SERVICE_NAME) != service:
            continue
        number = 0 if port is None else _number(part, port)
        if number is None:
            continue
        for endpoint in part.get("endpoints") or ():
            if node is not None and endpoint.get("nodeName") != node:
                continue
            conditions = endpoint.get("conditions") or {}
            where = {(to_local(address), number) for address in endpoint["addresses"]}
            if conditions.get("ready", True):
                found.ready |= where
            elif conditions.get("serving") and conditions.get("terminating"):
                found.ending |= where
    return found


def _number(part: Object, name: str) -> int | None:
    for port in part.get("ports") or ():
        if (port.get("name") or "") == name:
            return int(port["port"])
    return None
