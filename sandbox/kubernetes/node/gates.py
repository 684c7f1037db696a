"""Stands in for a pod's network interface: whoever wants to reach a pod comes through its gate.

A container's processes listen on an address that nobody is told (`Reservation.inside`). The gate listens on
the pod's own address, on the same ports, for exactly as long as the processes do: so a connection is refused
while the program loads and after it has stopped listening. Each new connection is judged by where it comes
from and then passed on, from the same address; one that is open already is never cut.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.relay import Endpoint, listen, peer, refuse, relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kubernetes.node.addresses import Reservation
    from sandbox.kubernetes.node.relay import Loop

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SOCKETS = Path("/proc/net/tcp")
_LISTENING = "0A"


@dataclass
class _Gate:
    """The gate of one pod: its open ports."""

    address: Reservation
    ports: dict[int, asyncio.Server] = field(default_factory=dict)


class Gates:
    """The gates of a node's pods.

    Args:
        loop: where connections are served.
        permitted: says whether a pod (by uid) may be reached from an address on a port; may block.
    """

    def __init__(self, loop: Loop, permitted: Callable[[str, str, int], bool]) -> None:
        self._loop = loop
        self._permitted = permitted
        self._gates: dict[str, _Gate] = {}
        loop.begin(self._follow())

    def add(self, uid: str, address: Reservation) -> None:
        """Give a pod its gate."""
        self._loop.run(self._add(uid, address))

    def remove(self, uid: str) -> None:
        """Close a pod's gate for new connections."""
        self._loop.run(self._remove(uid))

    async def _add(self, uid: str, address: Reservation) -> None:
        self._gates.setdefault(uid, _Gate(address))

    async def _remove(self, uid: str) -> None:
        gate = self._gates.pop(uid, None)
        for server in gate.ports.values() if gate is not None else ():
            server.close()

    async def _follow(self) -> None:
        while True:
            if self._gates:
                await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        """Open the gates on the ports that the pods' processes listen on, and on no others."""
        listening = _listening({gate.address.inside for gate in self._gates.values()})
        for uid, gate in list(self._gates.items()):
            wanted = {port for address, port in listening if address == gate.address.inside}
            for port in set(gate.ports) - wanted:
                gate.ports.pop(port).close()
            for port in wanted - set(gate.ports):
                try:
                    gate.ports[port] = await self._open(uid, gate.address, port)
                except OSError as error:
                    _LOG.warning("%s:%d: %s", gate.address.local, port, error)

    async def _open(self, uid: str, address: Reservation, port: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            source = peer(writer)
            if await asyncio.to_thread(self._permitted, uid, source, port):
                await relay(reader, writer, (address.inside, port), source)
            else:
                # On a real node the packets are dropped and the client waits; here it knows at once.
                _LOG.info("%s:%d: refused to %s by a NetworkPolicy", address.local, port, source)
                refuse(writer)

        return await listen(accept, address.local, port)


def _listening(addresses: set[str]) -> set[Endpoint]:
    """Return what is listened on at some addresses, of all processes of this machine (proc_net(5))."""
    # The kernel writes the address as a number in this machine's byte order: little-endian on all of ours.
    known = {socket.inet_aton(address)[::-1].hex().upper(): address for address in addresses}
    found: set[Endpoint] = set()
    with _SOCKETS.open() as lines:
        for line in lines:
            local, _remote, state = line.split(None, 4)[1:4]
            address, _, port = local.partition(":")
            if state == _LISTENING and address in known:
                found.add((known[address], int(port, 16)))
    return found
