"""kube-proxy's part on a node: NodePorts, and the health check port of Services with local traffic.

A Service with `externalTrafficPolicy: Local` leads to the pods of this node only, which see the client's own
address; any other one leads to all pods, which see the node's. Connections that are open go on whatever
becomes of their pod's readiness.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from sandbox.kubernetes.node import services
from sandbox.kubernetes.node.relay import listen, peer, refuse, relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.kubernetes.node.api import Object
    from sandbox.kubernetes.node.relay import Loop

_LOG = logging.getLogger(__name__)
_REQUEST_SECONDS = 5.0


@dataclass(frozen=True)
class _Use:
    """What an open port is for.

    Args:
        namespace: the Service's.
        service: its name.
        port: the name of its port; None for its health check.
        local: whether only pods of this node are meant.
    """

    namespace: str
    service: str
    port: str | None
    local: bool


@dataclass
class _Listener:
    server: asyncio.Server
    use: _Use
    turn: Iterator[int] = field(default_factory=itertools.count)


class NodePorts:
    """The ports that all Services have on one node.

    Args:
        loop: where connections are served.
        address: the node's.
        node: its name.
        objects: returns the Services.
        slices: returns the EndpointSlices.
    """

    def __init__(
        self,
        loop: Loop,
        address: str,
        node: str,
        objects: Callable[[], list[Object]],
        slices: Callable[[], list[Object]],
    ) -> None:
        self._loop = loop
        self._address = address
        self._node = node
        self._services = objects
        self._slices = slices
        self._listeners: dict[int, _Listener] = {}

    def services_changed(self) -> None:
        """Open and close ports after Services changed."""
        self._loop.begin(self._update())

    async def _update(self) -> None:
        wanted = {number: use for service in self._services() for number, use in _uses(service)}
        for number, listener in list(self._listeners.items()):
            if wanted.get(number) != listener.use:
                listener.server.close()
                del self._listeners[number]
        for number, use in wanted.items():
            if number not in self._listeners:
                await self._open(number, use)

    async def _open(self, number: int, use: _Use) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if use.port is None:
                await self._tell_health(use, reader, writer)
            else:
                await self._proxy(number, reader, writer)

        try:
            server = await listen(accept, self._address, number)
        except OSError as error:
            _LOG.error(
                "port %s:%d of Service %s/%s: %s", self._address, number, use.namespace, use.service, error
            )
            return
        self._listeners[number] = _Listener(server, use)

    def _endpoints(self, use: _Use) -> services.Endpoints:
        return services.endpoints(
            self._slices(),
            use.namespace,
            use.service,
            port=use.port,
            node=self._node if use.local else None,
        )

    async def _proxy(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener = self._listeners.get(number)
        usable = self._endpoints(listener.use).usable() if listener is not None else []
        if listener is None or not usable:
            # A connection to a Service without endpoints is refused on a real node; here it is reset.
            refuse(writer)
            return
        destination = usable[next(listener.turn) % len(usable)]
        source = peer(writer) if listener.use.local else self._address
        await relay(reader, writer, destination, source)

    async def _tell_health(
        self, use: _Use, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request as kube-proxy does: a pod that is terminating does not count."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            count = len(self._endpoints(use).ready)
            writer.write(_health(use, count, head_only=head.startswith(b"HEAD ")))
            await writer.drain()
        writer.close()


def _uses(service: Object) -> Iterator[tuple[int, _Use]]:
    metadata, spec = service["metadata"], service["spec"]
    local = spec.get("externalTrafficPolicy") == "Local"
    for port in spec.get("ports") or ():
        if port.get("nodePort") and port.get("protocol", "TCP") == "TCP":
            name = port.get("name") or ""
            yield port["nodePort"], _Use(metadata["namespace"], metadata["name"], name, local)
    if spec.get("healthCheckNodePort"):
        yield (
            spec["healthCheckNodePort"],
            _Use(metadata["namespace"], metadata["name"], port=None, local=True),
        )


def _health(use: _Use, count: int, *, head_only: bool) -> bytes:
    status = HTTPStatus.OK if count else HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps(
        {
            "service": {"namespace": use.namespace, "name": use.service},
            "localEndpoints": count,
            "serviceProxyHealthy": True,
        },
        indent="\t",
    )
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {count}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return (head if head_only else head + body).encode()
