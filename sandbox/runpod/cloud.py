"""Puts the platform together and serves it: REST v2 below `/v2`, the load balancer on all other paths."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import shutil
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from sandbox.runpod.control import Control
from sandbox.runpod.edge import Edge
from sandbox.runpod.faults import Faults
from sandbox.runpod.pool import Addresses, Limits, Pool
from sandbox.runpod.problems import Problem, problem_response
from sandbox.runpod.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sandbox.runpod.launcher import Launcher
    from sandbox.runpod.registry import Registry

_READY_SECONDS = 20.0
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class CloudError(RuntimeError):
    """The platform cannot be served; the message says why."""


class RunpodCloud:
    """The platform on one address, served by a thread between `start` and `stop`.

    Args:
        key: the account's API key.
        directory: where everything is kept; a platform started on it again has the same endpoints.
        launcher: starts workers.
        images: where images are looked up; None resolves none.
        block: the sandbox's loopback block: it listens on 127.block.0.2, workers on 127.block.3.n.
        port: where it listens; 0 takes a free one.
        limits: of load-balancer endpoints.
    """

    def __init__(
        self,
        *,
        key: str,
        directory: Path,
        launcher: Launcher,
        images: Registry | None,
        block: int = 0,
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self._key = key
        self._directory = directory
        self._launcher = launcher
        self._images = images
        self._block = block
        self._host = f"127.{block}.0.2" if block else "127.0.0.1"
        self._port = port
        self._limits = limits or Limits()
        self._pools: dict[str, Pool] = {}

    @property
    def base_url(self) -> str:
        """Where it is reached, without a path."""
        return f"http://{self._host}:{self._port}"

    @property
    def endpoint(self) -> str:
        """The base URL of REST v2."""
        return f"{self.base_url}/v2"

    def start(self) -> Self:
        """Serve, and return once requests are taken.

        Raises:
            CloudError: the port is in use, or the server ended at once.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise CloudError(f"{self._host}:{self._port} cannot be listened on: {error.strerror}") from error
        self._port = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(),
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
                server_header=False,
                date_header=False,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="runpod")
        self._thread.start()
        deadline = time.monotonic() + _READY_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise CloudError("the server did not start; its log says why")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop every worker and the server."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def admin_secret(self) -> str:
        """What the admin route asks for; kept beside the state, for its owner's eyes."""
        path = self._directory / "admin-secret"
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text()

    def _app(self) -> ASGIApp:
        store = Store(self._directory)
        new_pool = partial(
            Pool,
            launcher=self._launcher,
            addresses=Addresses(self._block),
            directory=self._directory / "workers",
            limits=self._limits,
        )
        control = Control(store, self._pools, new_pool, self._images, self.base_url)
        edge = Edge(self._pools.get, self._is_key, self._limits)

        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            # Workers of a platform that was killed died with it; only their folders are left.
            shutil.rmtree(self._directory / "workers", ignore_errors=True)
            for endpoint_id, endpoint in store.endpoints.items():
                if endpoint["type"] == "LOAD_BALANCER":
                    self._pools[endpoint_id] = new_pool(endpoint, len(store.releases[endpoint_id]))
            try:
                yield
            finally:
                await asyncio.gather(*(pool.close() for pool in self._pools.values()))
                await edge.close()

        api = Starlette(
            routes=control.routes(),
            middleware=[Middleware(_Authorization, is_key=self._is_key)],
            exception_handlers={
                Problem: _answer_problem,
                404: _answer_unknown,
                405: _answer_unknown,
                Exception: _answer_bug,
            },
        )
        faults = Faults(api, self.admin_secret)
        return Starlette(
            routes=[
                Route("/_sandbox/faults", faults.admin, methods=["GET", "POST", "DELETE"]),
                Mount("/v2", faults),
                # Starlette calls a class's instance as the ASGI application that it is.
                Route("/{endpoint_id}", edge, methods=_METHODS),
                Route("/{endpoint_id}/{path:path}", edge, methods=_METHODS),
            ],
            lifespan=lifespan,
        )

    def _is_key(self, authorization: str | None) -> bool:
        scheme, _, key = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key.encode())


class _Authorization:
    """Refuses API requests without the account's key."""

    def __init__(self, app: ASGIApp, is_key: Any) -> None:
        self._app = app
        self._is_key = is_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not self._is_key(authorization):
                detail = "invalid bearer token" if authorization else "missing bearer token"
                await problem_response(Problem(401, detail))(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  # registered for nothing else
    return problem_response(error)


async def _answer_unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return problem_response(Problem(status, f"{request.method} {request.url.path} is not an operation"))


async def _answer_bug(_request: Request, _error: Exception) -> Response:
    return problem_response(Problem(500, "internal error of the sandbox"))
