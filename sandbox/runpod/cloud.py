"""Puts the platform together and serves it.

REST v2 is below `/v2`, the job API and the worker protocol below `/api/v2`, the load balancer on all other
paths.
"""

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
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from sandbox.runpod.balancer_pool import BalancerPool
from sandbox.runpod.billing import Meter
from sandbox.runpod.clock import Clock
from sandbox.runpod.control import Control
from sandbox.runpod.edge import Edge
from sandbox.runpod.faults import Faults
from sandbox.runpod.gate import Gate, RateLimits
from sandbox.runpod.job_api import JobApi
from sandbox.runpod.limits import JobLimits, Limits
from sandbox.runpod.pool import Addresses, Site
from sandbox.runpod.problems import Problem, edge_error, problem_response
from sandbox.runpod.queue_pool import QueuePool
from sandbox.runpod.rates import Rates
from sandbox.runpod.store import Store
from sandbox.runpod.webhooks import Webhooks
from sandbox.runpod.worker_api import WorkerApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from sandbox.runpod.launcher import Launcher
    from sandbox.runpod.pool import Pool
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
        limits: of load-balancer endpoints and of workers.
        job_limits: of queue endpoints' jobs.
        rate_limits: requests to REST v2 in a `minute`, `hour` or `day` above which it refuses; the windows
            that are not named are shown as published and refuse nothing.
        speed: how many of the platform's seconds pass in one of this machine's.
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
        job_limits: JobLimits | None = None,
        rate_limits: Mapping[str, int] | None = None,
        speed: float = 1.0,
    ) -> None:
        self._key = key
        self._directory = directory
        self._launcher = launcher
        self._images = images
        self._block = block
        self._host = f"127.{block}.0.2" if block else "127.0.0.1"
        self._port = port
        self._limits = limits or Limits()
        self._job_limits = job_limits or JobLimits()
        self._rate_limits = rate_limits or {}
        self._clock = Clock(speed)
        self._pools: dict[str, Pool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def base_url(self) -> str:
        """Where it is reached, without a path."""
        return f"http://{self._host}:{self._port}"

    @property
    def endpoint(self) -> str:
        """The base URL of REST v2."""
        return f"{self.base_url}/v2"

    @property
    def jobs(self) -> str:
        """The base URL of the job API, to which an endpoint's id is added."""
        return f"{self.base_url}/api/v2"

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
        if self._loop is not None:
            # Workers first: the server waits for their open questions, and answers what they still post.
            asyncio.run_coroutine_threadsafe(self._close_pools(), self._loop).result()
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
        faults = Faults(self.admin_secret)
        webhooks = Webhooks(self._clock)
        meter = Meter(store, self._clock)
        site = Site(
            launcher=self._launcher,
            addresses=Addresses(self._block),
            directory=self._directory / "workers",
            clock=self._clock,
            faults=faults,
            meter=meter,
            limits=self._limits,
        )

        def new_pool(endpoint: dict[str, Any], version: int) -> Pool:
            if endpoint["type"] == "LOAD_BALANCER":
                return BalancerPool(endpoint, version, site)
            return QueuePool(
                endpoint, version, site, job_url=self.jobs, limits=self._job_limits, webhooks=webhooks
            )

        control = Control(
            store, self._pools, new_pool, self._images, self.base_url, clock=self._clock, meter=meter
        )
        edge = Edge(self._pools.get, self._is_key, self._limits, self._clock)

        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            # Workers of a platform that was killed died with it; only their folders are left.
            shutil.rmtree(self._directory / "workers", ignore_errors=True)
            for endpoint_id, endpoint in store.endpoints.items():
                self._pools[endpoint_id] = new_pool(endpoint, len(store.releases[endpoint_id]))
            idle = asyncio.create_task(control.idle.run(), name="idle endpoints")
            self._loop = asyncio.get_running_loop()
            try:
                yield
            finally:
                self._loop = None
                idle.cancel()
                await self._close_pools()
                await webhooks.close()
                await edge.close()

        app = Starlette(
            routes=[
                Route("/_sandbox/faults", faults.admin, methods=["GET", "POST", "DELETE"]),
                Mount("/api/v2", faults.around(self._job_app(faults), _refuse)),
                Mount("/v2", faults.around(self._rest_app(control), _refuse_with_problem)),
                # Starlette calls a class's instance as the ASGI application that it is.
                Route("/{endpoint_id}", edge, methods=_METHODS),
                Route("/{endpoint_id}/{path:path}", edge, methods=_METHODS),
            ],
            lifespan=lifespan,
            # Routes let no line end through; an id with one is an id that nothing has.
            exception_handlers={404: _answer_unknown},
        )
        return control.idle.watch(app)

    async def _close_pools(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _rest_app(self, control: Control) -> ASGIApp:
        limits = RateLimits(self._clock, self._rate_limits)
        return Starlette(
            routes=control.routes(),
            middleware=[Middleware(Gate, is_key=self._is_key, limits=limits)],
            exception_handlers={
                Problem: _answer_problem,
                404: _answer_unknown,
                405: _answer_unknown,
                Exception: _answer_bug,
            },
        )

    def _job_app(self, faults: Faults) -> ASGIApp:
        pool_of, limits = self._pools.get, self._job_limits
        jobs = JobApi(pool_of, self._is_key, Rates(limits.rates, self._clock), limits)
        workers = WorkerApi(pool_of, faults, limits)
        return Starlette(
            routes=[*workers.routes(), *jobs.routes()],
            exception_handlers={
                404: _answer_no_operation,
                405: _answer_no_operation,
                Exception: _answer_error,
            },
        )

    def _is_key(self, authorization: str | None) -> bool:
        scheme, _, key = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key.encode())


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  # registered for nothing else
    return problem_response(error)


async def _answer_unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    problem = Problem(status, f"{request.method} {request.url.path} is not an operation")
    return problem_response(problem, getattr(error, "headers", None))


async def _answer_bug(_request: Request, _error: Exception) -> Response:
    return problem_response(Problem(500, "internal error of the sandbox"))


async def _answer_no_operation(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return edge_error(status, f"{request.method} {request.url.path} is not an operation")


async def _answer_error(_request: Request, _error: Exception) -> Response:
    return edge_error(500, "internal error of the sandbox")


def _refuse_with_problem(status: int, detail: str, headers: dict[str, str]) -> Response:
    return problem_response(Problem(status, detail), headers)


def _refuse(status: int, detail: str, headers: dict[str, str]) -> Response:
    response = edge_error(status, detail)
    response.headers.update(headers)
    return response
