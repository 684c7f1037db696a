"""The part of the kubelet's API that logs and port forwarding use, over TLS, for the API server alone."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from wsproto.utilities import RemoteProtocolError

from sandbox.kubernetes.node.portforward import ForwardError, forward

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.kubernetes.node.container import Runner
    from sandbox.kubernetes.pki import Authority, KeyPair

_LOG = logging.getLogger(__name__)
_CLIENT = "kube-apiserver-kubelet-client"
_BLOCK_BYTES = 64 * 1024
_FOLLOW_SECONDS = 0.2


class KubeletServer(ThreadingHTTPServer):
    """Serves the logs of the node's containers, and the ports of its pods.

    Args:
        address: the node's.
        port: of the kubelet API.
        authority: signs the API server's certificate.
        pair: the node's certificate.
        find: returns the container of a namespace, a pod and a container's name.
        inside: returns the address that the processes of a namespace's pod listen on.
    """

    daemon_threads = True

    def __init__(
        self,
        address: str,
        port: int,
        authority: Authority,
        pair: KeyPair,
        find: Callable[[str, str, str], Runner | None],
        inside: Callable[[str, str], str | None],
    ) -> None:
        super().__init__((address, port), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(authority.pair.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        # The handshake is made in the request's own thread, by its first read.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.find = find
        self.inside = inside

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self.serve_forever, name="kubelet api", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log in one line that a connection failed: a handshake without certificate is no fault of ours."""
        del request
        _LOG.info("kubelet API: a connection from %s failed", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: KubeletServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if not self._authorized():
            self._refuse(403, "only the API server may ask")
        elif parts == ["healthz"]:
            self._answer(200, b"ok")
        elif len(parts) == 4 and parts[0] == "containerLogs":
            self._logs(parts[1], parts[2], parts[3], query)
        elif len(parts) == 3 and parts[0] == "portForward":
            self._forward(parts[1], parts[2], query)
        else:
            self._refuse(501, f"the sandbox's node does not serve {url.path}")

    def do_POST(self) -> None:
        self._refuse(501, "the sandbox's node runs no commands, and forwards ports over WebSockets only")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        _LOG.debug(format, *args)

    def _authorized(self) -> bool:
        connection = self.connection
        certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        subject: Any = (certificate or {}).get("subject", ())
        return (("commonName", _CLIENT),) in subject

    def _logs(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> None:
        for option in ("timestamps", "sinceTime", "sinceSeconds"):
            if query.get(option, "false") != "false":
                self._refuse(
                    400, f"the sandbox's node keeps no times of log lines: {option} is not supported"
                )
                return
        runner = self.server.find(namespace, pod, container)
        previous = query.get("previous") == "true"
        path = runner.log_path(previous=previous) if runner is not None else None
        if runner is None or path is None:
            what = f"{'previous terminated ' if previous else ''}container {container!r} in pod {pod!r}"
            self._refuse(400 if runner is not None else 404, f"{what} not found")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        limit = int(query.get("limitBytes", 1 << 62))
        follow = query.get("follow") == "true"
        self._send_file(path, int(query.get("tailLines", -1)), limit, runner if follow else None)
        self.wfile.write(b"0\r\n\r\n")

    def _forward(self, namespace: str, pod: str, query: dict[str, str]) -> None:
        connection, address = self.connection, self.server.inside(namespace, pod)
        if address is None or not isinstance(connection, ssl.SSLSocket):
            self._refuse(404, f"pod {pod!r} not found")
            return
        self.close_connection = True
        try:
            forward(connection, self.headers.items(), self.path, (address, int(query["port"])))
        except (ForwardError, KeyError, ValueError, RemoteProtocolError) as error:
            self._refuse(400, str(error))

    def _send_file(self, path: Path, tail_lines: int, limit: int, followed: Runner | None) -> None:
        with path.open("rb") as log:
            if tail_lines >= 0:
                log.seek(_tail_offset(path, tail_lines))
            while limit > 0:
                over = followed is None or followed.log_path(previous=False) != path or not followed.running
                while limit > 0 and (block := log.read(min(_BLOCK_BYTES, limit))):
                    limit -= len(block)
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                    self.wfile.flush()
                if over:
                    return
                time.sleep(_FOLLOW_SECONDS)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, message.encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _tail_offset(path: Path, lines: int) -> int:
    """Return where the last lines of a file begin."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        if lines == 0:
            return end
        found = 0
        while position > 0:
            size = min(_BLOCK_BYTES, position)
            position -= size
            file.seek(position)
            block = file.read(size)
            for index in range(len(block) - 1, -1, -1):
                # The line break that ends the file begins no line.
                if block[index] == 0x0A and position + index != end - 1:
                    found += 1
                    if found == lines:
                        return position + index + 1
    return 0
