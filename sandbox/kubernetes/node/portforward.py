"""The kubelet's port forwarding over WebSockets: a connection to a pod's port from inside of the pod.

Each port has two channels, which the first byte of a message names: data in both directions, and errors to
the client. On each the first message says the port.
Source: Kubernetes, pkg/kubelet/cri/streaming/portforward/websocket.go.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = b"\x00", b"\x01"
_BLOCK_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0


class ForwardError(Exception):
    """The request is none that this node forwards; the message says why."""


def forward(
    client: ssl.SSLSocket, headers: Iterable[tuple[str, str]], path: str, destination: tuple[str, int]
) -> None:
    """Answer the request for a WebSocket and pass bytes on until one side has ended.

    Args:
        client: the API server's connection.
        headers: of its request.
        path: likewise.
        destination: where the pod's processes listen, and the port.

    Raises:
        ForwardError: the request is for no WebSocket with this protocol.
    """
    web = WSConnection(ConnectionType.SERVER)
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    web.initiate_upgrade_connection(encoded, path)
    request = next(web.events(), None)
    if not isinstance(request, Request) or _PROTOCOL not in request.subprotocols:
        raise ForwardError(f"the sandbox's node forwards ports over WebSockets with {_PROTOCOL} only")
    client.sendall(web.send(AcceptConnection(subprotocol=_PROTOCOL)))
    port = struct.pack("<H", destination[1])
    for channel in (_DATA, _ERROR):
        client.sendall(web.send(BytesMessage(channel + port)))
    try:
        pod = socket.create_connection(destination, timeout=_CONNECT_SECONDS)
    except OSError as error:
        problem = f"an error occurred forwarding {destination[1]}: {error}".encode()
        client.sendall(web.send(BytesMessage(_ERROR + problem)))
    else:
        with pod:
            _pass_on(client, web, pod)
    client.sendall(web.send(CloseConnection(1000)))


def _pass_on(client: ssl.SSLSocket, web: WSConnection, pod: socket.socket) -> None:
    """Pass bytes on; returns when the pod has said all, or the client has gone."""
    pod.settimeout(None)
    while True:
        ready = [client] if client.pending() else select.select([client, pod], [], [])[0]
        if pod in ready:
            block = pod.recv(_BLOCK_BYTES)
            if not block:
                return
            client.sendall(web.send(BytesMessage(_DATA + block)))
        if client in ready:
            web.receive_data(client.recv(_BLOCK_BYTES) or None)
            for event in web.events():
                if isinstance(event, BytesMessage):
                    pod.sendall(event.data.removeprefix(_DATA))
                elif isinstance(event, Ping):
                    client.sendall(web.send(event.response()))
                elif isinstance(event, CloseConnection):
                    return
