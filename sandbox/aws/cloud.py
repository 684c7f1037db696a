"""The state of one sandbox account: one lock, one journal, and the services that answer its requests."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from moto.moto_api._internal import mock_random
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import EnvironBuilder, run_wsgi_app

from sandbox.aws import determinism
from sandbox.aws.errors import AwsError, render
from sandbox.aws.journal import Journal, Record
from sandbox.aws.messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.aws.addresses import Addresses

ACCOUNT_ID = "123456789012"
REGION = "us-east-1"

_log = logging.getLogger(__name__)
_KEPT_HEADERS = ("authorization", "content-type", "content-encoding", "content-md5", "host", "x-amz", "if-")
_DROPPED_HEADERS = ("x-amz-security-token",)


class Service(Protocol):
    """A service of the sandbox's own, in place of moto's."""

    def call(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; runs under the cloud's lock."""
        ...


class Cloud:
    """One account. Changes are made one at a time, journalled, and made again after a restart.

    Args:
        directory: where the journal and all else is kept.
        addresses: where the parts listen.
        on_failure: called with one line when the journal cannot be written and nothing can go on.
    """

    def __init__(self, directory: Path, addresses: Addresses, on_failure: Callable[[str], None]) -> None:
        self.directory = directory
        self.addresses = addresses
        self.lock = threading.RLock()
        self.services: dict[str, Service] = {}
        self._events: dict[str, Callable[..., Any]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._on_failure = on_failure
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._journal = Journal(directory / "journal")
        self._salt = self._load_salt()
        self._sequence = 0
        self._now: float | None = None
        self.replaying = False
        determinism.install(self._salt)

    def _load_salt(self) -> str:
        path = self.directory / "salt"
        if not path.exists():
            path.write_text(secrets.token_hex(16))
            path.chmod(0o600)
        return path.read_text()

    def now(self) -> datetime:
        """Return the time of the change under way; when played again, the time it was first made."""
        return datetime.fromtimestamp(self._now if self._now is not None else time.time(), UTC)

    def on_event(self, name: str, handler: Callable[..., Any]) -> None:
        """Name the function that makes a change which no request asks for, such as a cluster being ready."""
        self._events[name] = handler

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change; it must return at once."""
        self._listeners.append(listener)

    def replay(self) -> int:
        """Make all journalled changes again; returns how many there were."""
        count = 0
        with self.lock:
            self.replaying = True
            for record in self._journal.records():
                self._sequence = record.sequence
                self._apply(record)
                count += 1
            self.replaying = False
        return count

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request whose signature has been checked."""
        if request.read_only:
            with self.lock, determinism.seeded(secrets.token_hex(8)):
                return self._dispatch(request)
        detail = {
            "kind": "request",
            "method": request.method,
            "target": request.target,
            "headers": [
                pair
                for pair in request.headers
                if pair[0].lower().startswith(_KEPT_HEADERS) and pair[0].lower() not in _DROPPED_HEADERS
            ],
        }
        response: HttpResponse = self._change(detail, request.body, lambda answer: answer.status < 400)
        return response

    def record(self, event: str, **payload: Any) -> Any:
        """Make a change that no request asks for: run the event's handler with `payload`, and journal it."""
        return self._change({"kind": "event", "name": event, "payload": payload}, b"", lambda _: True)

    def signal_change(self) -> None:
        """Tell the listeners to look at the state again."""
        for listener in self._listeners:
            listener()

    def inside(self, function: Callable[[], Any]) -> Any:
        """Run a function under the lock, for a consistent look at the state."""
        with self.lock:
            return function()

    def _change(self, detail: dict[str, Any], body: bytes, keep: Callable[[Any], bool]) -> Any:
        with self.lock:
            if self._now is not None:
                raise RuntimeError("a change was made inside another")
            self._sequence += 1
            record = Record(self._sequence, time.time(), json.loads(json.dumps(detail)), body)
            result = self._apply(record)
            if keep(result):
                try:
                    self._journal.append(record)
                except OSError as error:
                    self._on_failure(f"the journal in {self.directory} cannot be written: {error}")
                    raise
        self.signal_change()
        return result

    def _apply(self, record: Record) -> Any:
        detail = record.detail
        self._now = record.time
        try:
            with determinism.seeded(f"{self._salt}:{record.sequence}"):
                if detail["kind"] == "event":
                    return self._events[detail["name"]](**detail["payload"])
                headers = tuple((key, value) for key, value in detail["headers"])
                return self._dispatch(HttpRequest(detail["method"], detail["target"], headers, record.body))
        finally:
            self._now = None

    def _dispatch(self, request: HttpRequest) -> HttpResponse:
        request_id = str(mock_random.uuid4())
        try:
            if service := self.services.get(request.service):
                return service.call(request)
            return self._call_moto(request)
        except AwsError as error:
            return render(error, request.service, request_id)
        except NotImplementedError as error:
            _log.warning("%s %s: %s", request.service, request.action or request.method, error)
            message = (
                f"The sandbox's {request.service} does not implement {request.action or request.target}."
            )
            return render(AwsError("NotImplemented", message, 501), request.service, request_id)
        except Exception:  # noqa: BLE001  # a fault in moto is AWS's InternalFailure
            _log.exception("%s %s failed", request.service, request.action or request.method)
            message = "We encountered an internal error. Please try again."
            return render(AwsError("InternalFailure", message, 500), request.service, request_id)

    def _call_moto(self, request: HttpRequest) -> HttpResponse:
        environ = wsgi_environ(request, self.addresses.endpoint)
        body, status, headers = run_wsgi_app(self._moto, environ, buffered=True)
        return HttpResponse(int(status.split()[0]), tuple(headers), b"".join(body))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def wsgi_environ(request: HttpRequest, base_url: str) -> dict[str, Any]:
    """Return the WSGI environment of a request, as moto's own server makes it."""
    path, _, query = request.target.partition("?")
    headers = [
        pair for pair in request.headers if pair[0].lower() not in {"transfer-encoding", "content-length"}
    ]
    builder = EnvironBuilder(
        path=unquote(path),
        base_url=base_url,
        query_string=query,
        method=request.method,
        headers=headers,
        input_stream=None,
        data=request.body,
    )
    environ: dict[str, Any] = builder.get_environ()
    environ["RAW_URI"] = environ["REQUEST_URI"] = request.target
    environ["CONTENT_LENGTH"] = str(len(request.body))
    environ["REMOTE_ADDR"] = "127.0.0.1"
    if (content_type := request.header("content-type")) is not None:
        environ["CONTENT_TYPE"] = content_type
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {
        environ_key_for_header(name): name
        for name, _ in request.headers
        if should_preserve_original_header_name(name)
    }
    return environ
