"""Answers for vLLM's health on a port of its own, while vLLM loads too."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PROBE_SECONDS = 5.0


class Health:
    """Whether vLLM serves.

    Args:
        host: vLLM's address.
        port: its port.
        is_leaving: whether it drains or has ended.
    """

    def __init__(self, host: str, port: int, is_leaving: Callable[[], bool]) -> None:
        self._address = f"{host}:{port}"
        self._is_leaving = is_leaving
        self._was_ready = False

    def status(self) -> int:
        """Return 204 while vLLM loads, 200 while it serves, 503 when it drains, has ended or is stuck."""
        if self._is_leaving():
            return 503
        answers = serves(self._address)
        self._was_ready = self._was_ready or answers
        if not self._was_ready:
            return 204
        return 200 if answers else 503


def serves(address: str) -> bool:
    """Tell whether vLLM answers at an address, `host:port`, that it is well."""
    connection = http.client.HTTPConnection(address, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def serve(health: Health, host: str, port: int) -> None:
    """Answer any path with the health's status, in the background.

    Raises:
        OSError: the port cannot be listened on.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(health.status())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_args: object) -> None:
            """Say nothing: the platform asks every few seconds."""

    ThreadingHTTPServer.daemon_threads = True
    listener = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
