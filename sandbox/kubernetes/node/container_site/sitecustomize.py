"""Stands in for the network interface of a container, on the way out; Python imports it when it starts.

Before a program connects, the node is asked whether a NetworkPolicy allows it (`egress.py`); without an
answer it does not. A refused connection fails as one whose packets are dropped does in the end: it timed out.
What does go out comes from the pod's own address, by which others judge it.

Covered: every Python program of the container, and what it starts, as long as it keeps its environment and
is not run with -I, -E or -S: connections and datagrams of the `socket` module, with asyncio and all clients
that use it, and TCP connections of uvloop. Not covered: programs in other languages, native code that opens
its own sockets (Rust and C++ clients, the C library's own DNS queries), uvloop's datagrams.

Standard library only, any Python 3.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from typing import Any

_NODE = os.environ.get("BERTH_EGRESS")
_POD = os.environ.get("BERTH_POD")
_ADDRESS = os.environ.get("BERTH_POD_ADDRESS", "")
# What the pod's processes listen on, behind its gate.
_INSIDE = os.environ.get("BERTH_HOST", "")
_ANSWER_SECONDS = 10.0
_IP_BIND_ADDRESS_NO_PORT = 24  # ip(7): the port is chosen by connect, so that none is taken twice
_INTERNET = (socket.AF_INET, socket.AF_INET6)


def _own(address: str) -> bool:
    """Say whether an address is the container's own: its loopback interface, or its pod's."""
    own = {"", "0.0.0.0", "::", "::1", "localhost", _ADDRESS, _INSIDE}  # noqa: S104
    return address in own or address.startswith("127.0.0.")


def _allowed(address: str, port: int, protocol: str) -> bool:
    request = {"pod": _POD, "address": address, "port": port, "protocol": protocol}
    try:
        with socket.socket(socket.AF_UNIX) as node:
            node.settimeout(_ANSWER_SECONDS)
            node.connect(f"\0{_NODE}")
            node.sendall(json.dumps(request).encode() + b"\n")
            return node.makefile("rb").readline() == b"yes\n"
    except OSError:
        return False


def _check(host: str, port: int, protocol: str) -> None:
    if _own(host):
        return
    for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        address = str(found[4][0])
        if not _own(address) and not _allowed(address, port, protocol):
            raise TimeoutError(
                errno.ETIMEDOUT, f"Connection timed out (no NetworkPolicy allows {host}:{port})"
            )


def _take_address(own: socket.socket, host: str) -> None:
    """Let a connection within the sandbox come from the pod's address, if it has none yet."""
    if own.family != socket.AF_INET or _own(host) or own.getsockname()[1]:
        return
    if socket.gethostbyname(host).startswith("127."):
        own.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        own.bind((_ADDRESS, 0))


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        return
    own, address = arguments
    if own.family not in _INTERNET or not isinstance(address, tuple):
        return
    host, port = address[:2]
    if event != "socket.connect":
        _check(host, port, "UDP")
    elif own.type == socket.SOCK_STREAM:  # a datagram socket's connect sends nothing
        _check(host, port, "TCP")
        _take_address(own, host)


class _Uvloop:
    """Puts the same check before uvloop's connections, which no audit event tells of."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        if name != "uvloop":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec  # noqa: PLC0415  # not needed by most programs

        spec = find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def run(module: Any) -> None:
                execute(module)
                _guard(module.Loop)

            loader.exec_module = run
        return spec


def _guard(loop: Any) -> None:
    connect = loop.create_connection

    async def create_connection(
        self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if host is not None and not _own(str(host)):
            await self.run_in_executor(None, _check, str(host), int(port), "TCP")
            if (await self.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0][4][0].startswith("127."):
                options.setdefault("local_addr", (_ADDRESS, 0))
        return await connect(self, factory, host, port, **options)

    loop.create_connection = create_connection


if _NODE:
    sys.addaudithook(_watch)
    sys.meta_path.insert(0, _Uvloop())
