"""The AWS API's HTTP server: checks who asks, then hands over to the account, the registry or the admin."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.errors import AwsError, render
from sandbox.aws.messages import HttpRequest, HttpResponse, json_response
from sandbox.aws.signing import authenticate
from sandbox.aws.sockets import listen, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.aws.cloud import Cloud

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20

StartResponse = Any
WsgiApplication = Any


class Server:
    """Listens on the sandbox's API address and serves each connection in a thread.

    Args:
        cloud: the account.
        registry: the application under `/v2/`.
        admin: functions for paths under `/_sandbox/`, by the path's next part; each gets the request.

    Raises:
        OSError: the address is in use.
    """

    def __init__(
        self,
        cloud: Cloud,
        registry: WsgiApplication,
        admin: dict[str, Callable[[HttpRequest], HttpResponse]],
    ) -> None:
        self._cloud = cloud
        self._registry = registry
        self._admin = admin
        address, port = cloud.addresses.api, cloud.addresses.port
        try:
            listening = listen(address, port)
        except OSError as error:
            raise OSError(why_not(error, address, port)) from error
        with listening:  # the server has a copy of its own
            self._server = _HttpServer(address, port, self._application, _Handler, fd=listening.fileno())
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws-api", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _application(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        target = environ["RAW_URI"]
        path = target.partition("?")[0]
        if path == "/v2" or path.startswith("/v2/"):
            answer: Iterable[bytes] = self._registry(environ, start_response)
            return answer
        response = self._respond(read_request(environ))
        start_response(f"{response.status} ", list(response.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def _respond(self, request: HttpRequest) -> HttpResponse:
        parts = request.path.strip("/").split("/")
        if parts[0] == "_sandbox":
            if len(parts) > 1 and parts[1] in self._admin:
                return self._admin[parts[1]](request)
            return json_response(404, {"message": f"There is no {request.path}."})
        if parts[0] == "moto-api":
            return json_response(404, {"message": "moto's own control interface is off in the sandbox."})
        try:
            authenticate(request, ACCOUNT_ID)
        except AwsError as error:
            return render(error, request.service, str(uuid4()))
        return self._cloud.handle(request)


def read_request(environ: dict[str, Any]) -> HttpRequest:
    """Read a whole request from a WSGI environment."""
    body = b"".join(read_body(environ))
    return HttpRequest(environ["REQUEST_METHOD"], environ["RAW_URI"], environ["sandbox.headers"], body)


def read_body(environ: dict[str, Any]) -> Iterable[bytes]:
    """Read what is left of a request's body, in chunks."""
    stream = environ["wsgi.input"]
    # None: sent in chunks, and the stream knows its end.
    left = None if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
    left = environ.get("sandbox.left", left)
    while left is None or left > 0:
        chunk = stream.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))
        if not chunk:
            if left is not None:
                raise ConnectionError("the client went away before it had sent the whole body")
            break
        left = None if left is None else left - len(chunk)
        environ["sandbox.left"] = left
        yield chunk
    environ["sandbox.left"] = 0


class _HttpServer(ThreadedWSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(WSGIRequestHandler):
    """Keeps connections open between requests, and keeps header names as they were sent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def make_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().make_environ()
        environ["sandbox.headers"] = tuple((key, value) for key, value in self.headers.items())
        return environ

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        level = logging.DEBUG if type == "info" else logging.WARNING
        _log.log(level, message, *args)
