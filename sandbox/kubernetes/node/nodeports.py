"""kube-proxy's part, for NodePorts: listens on the node's address and passes connections to ready pods."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.addresses import to_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.kubernetes.node.api import Object

_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0
_SERVICE_NAME = "kubernetes.io/service-name"

Key = tuple[str, str, str]  # namespace, Service, name of the port
Endpoint = tuple[str, int]


@dataclass
class _Listener:
    """One open NodePort."""

    server: asyncio.Server
    key: Key
    local_only: bool
    turn: Iterator[int] = field(default_factory=itertools.count)


class NodePorts:
    """The NodePorts of all Services, on one node.

    Args:
        address: the node's.
        node: its name, for `externalTrafficPolicy: Local`.
        services: returns the Services.
        slices: returns the EndpointSlices.
    """

    def __init__(
        self,
        address: str,
        node: str,
        services: Callable[[], list[Object]],
        slices: Callable[[], list[Object]],
    ) -> None:
        self._address = address
        self._node = node
        self._services = services
        self._slices = slices
        self._listeners: dict[int, _Listener] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="nodeports", daemon=True).start()

    def services_changed(self) -> None:
        """Open and close ports after Services changed."""
        asyncio.run_coroutine_threadsafe(self._update(), self._loop)

    async def _update(self) -> None:
        wanted: dict[int, tuple[Key, bool]] = {}
        for service in self._services():
            metadata, spec = service["metadata"], service["spec"]
            local = spec.get("externalTrafficPolicy") == "Local"
            for port in spec.get("ports") or ():
                if port.get("nodePort") and port.get("protocol", "TCP") == "TCP":
                    key = (metadata["namespace"], metadata["name"], port.get("name") or "")
                    wanted[port["nodePort"]] = (key, local)
        for number, listener in list(self._listeners.items()):
            if wanted.get(number) != (listener.key, listener.local_only):
                listener.server.close()
                del self._listeners[number]
        for number, (key, local) in wanted.items():
            if number not in self._listeners:
                await self._open(number, key, local_only=local)

    async def _open(self, number: int, key: Key, *, local_only: bool) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._proxy(number, reader, writer)

        try:
            server = await asyncio.start_server(accept, self._address, number, limit=_BLOCK_BYTES)
        except OSError as error:
            _LOG.error("NodePort %s:%d of Service %s/%s: %s", self._address, number, key[0], key[1], error)
            return
        self._listeners[number] = _Listener(server, key, local_only)

    def _endpoints(self, listener: _Listener) -> list[Endpoint]:
        """Return where connections may go: ready pods, or for want of them those that still serve."""
        namespace, service, port_name = listener.key
        ready: list[Endpoint] = []
        ending: list[Endpoint] = []
        for part in self._slices():
            metadata = part["metadata"]
            labels = metadata.get("labels") or {}
            if metadata["namespace"] != namespace or labels.get(_SERVICE_NAME) != service:
                continue
            port = next(
                (p["port"] for p in part.get("ports") or () if (p.get("name") or "") == port_name), None
            )
            if port is None:
                continue
            for endpoint in part.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                if listener.local_only and endpoint.get("nodeName") != self._node:
                    continue
                where = [(to_local(address), port) for address in endpoint["addresses"]]
                if conditions.get("ready", True):
                    ready += where
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending += where
        return sorted(ready or ending)

    async def _proxy(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener = self._listeners.get(number)
        endpoints = self._endpoints(listener) if listener is not None else []
        if listener is None or not endpoints:
            # A connection to a Service without endpoints is refused on a real node; here it is reset.
            writer.transport.abort()
            return
        host, port = endpoints[next(listener.turn) % len(endpoints)]
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(host, port, limit=_BLOCK_BYTES)
        except OSError as error:
            _LOG.info("NodePort %d: %s:%d: %s", number, host, port, error)
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        except OSError:
            # One side is gone: the other one learns it by a reset.
            writer.transport.abort()
            far_writer.transport.abort()
        finally:
            for end in (writer, far_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
