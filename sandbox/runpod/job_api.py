"""The job API of queue endpoints: jobs are submitted, waited for, looked at, cancelled, retried."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from sandbox.runpod import openai_jobs, orders
from sandbox.runpod.jobs import Job, JobError, Order
from sandbox.runpod.operations import parse, query_number, read, route
from sandbox.runpod.queue_pool import QueuePool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.limits import JobLimits
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.rates import Rates

_LONGEST_TTL_MS = 7 * 24 * 3600 * 1000


class JobApi:
    """The operations of clients.

    Args:
        pool_of: returns an endpoint's workers.
        is_key: says whether an `Authorization` header opens the account.
        rates: counts what is asked.
        limits: the platform's.
    """

    def __init__(
        self,
        pool_of: Callable[[str], Pool | None],
        is_key: Callable[[str | None], bool],
        rates: Rates,
        limits: JobLimits,
    ) -> None:
        self._pool_of = pool_of
        self._is_key = is_key
        self._rates = rates
        self._limits = limits

    def routes(self) -> list[Route]:
        """Return the routes below the job API's base."""
        return [
            self._route("POST", "run", self.run),
            self._route("POST", "runsync", self.run_sync),
            self._route("GET", "status/{job_id}", self.status),
            self._route("GET", "stream/{job_id}", self.stream),
            self._route("POST", "cancel/{job_id}", self.cancel),
            self._route("POST", "retry/{job_id}", self.retry),
            self._route("POST", "purge-queue", self.purge),
            self._route("GET", "requests", self.list_requests),
            self._route("GET", "openai/{path:path}", self.openai),
            self._route("POST", "openai/{path:path}", self.openai),
            route("GET", "/{endpoint_id}/health", self.health),
        ]

    async def run(self, request: Request, pool: QueuePool) -> Response:
        """POST run: a job's id at once."""
        document = parse(await read(request, self._limits.run_bytes))
        order = self._order(document, pool, sync=False, kept_seconds=self._limits.run_kept_seconds)
        job = pool.jobs.submit(order)
        return JSONResponse({"id": job.id, "status": job.status})

    async def run_sync(self, request: Request, pool: QueuePool) -> Response:
        """POST runsync: the result, if it comes in time, otherwise the id."""
        wait_seconds = query_number(request, "wait", 1000, 300_000, 90_000) / 1000
        document = parse(await read(request, self._limits.sync_bytes))
        # The result is kept for as long as the client asked to wait for it, if that is longer.
        kept_seconds = max(
            self._limits.sync_kept_seconds, wait_seconds if "wait" in request.query_params else 0
        )
        job = pool.jobs.submit(self._order(document, pool, sync=True, kept_seconds=kept_seconds))
        answered = await pool.jobs.wait(job, min(wait_seconds, self._limits.answer_seconds))
        if not answered and wait_seconds > self._limits.answer_seconds:
            return _gateway_timeout()
        return JSONResponse(_known(job).document())

    async def status(self, request: Request, pool: QueuePool) -> Response:
        """GET status: the job; `ttl` in milliseconds sets how long it is still known."""
        job = self._job(request, pool)
        if "ttl" in request.query_params:
            pool.jobs.forget_after(job, query_number(request, "ttl", 1, _LONGEST_TTL_MS, 0) / 1000)
        return JSONResponse(job.document())

    async def stream(self, request: Request, pool: QueuePool) -> Response:
        """GET stream: the pieces that have come since the last time."""
        job = self._job(request, pool)
        pieces = [{"output": piece} for piece in job.drain()]
        return JSONResponse({"id": job.id, "status": job.status, "stream": pieces})

    async def cancel(self, request: Request, pool: QueuePool) -> Response:
        """POST cancel: the job's state afterwards."""
        job = self._job(request, pool)
        pool.jobs.cancel(job)
        return JSONResponse({"id": job.id, "status": job.status})

    async def retry(self, request: Request, pool: QueuePool) -> Response:
        """POST retry: a failed job is queued again."""
        job = self._job(request, pool)
        pool.jobs.retry(job)
        return JSONResponse({"id": job.id, "status": job.status})

    async def purge(self, _request: Request, pool: QueuePool) -> Response:
        """POST purge-queue: no job waits any longer."""
        return JSONResponse({"removed": pool.jobs.purge(), "status": "completed"})

    async def list_requests(self, _request: Request, pool: QueuePool) -> Response:
        """GET requests: every job that is known."""
        return JSONResponse({"requests": [job.document() for job in pool.jobs.jobs.values()]})

    async def openai(self, request: Request, pool: QueuePool) -> Response:
        """GET or POST openai/v1/...: a job for the worker's OpenAI routes, answered as they answer."""
        body = await read(request, self._limits.sync_bytes)
        document: dict[str, Any] = {"openai_route": f"/{request.path_params['path']}"}
        openai_input = parse(body) if request.method == "POST" else None
        if openai_input is not None:
            document["openai_input"] = openai_input
        kept_seconds = self._limits.sync_kept_seconds
        job = pool.jobs.submit(self._order({"input": document}, pool, sync=True, kept_seconds=kept_seconds))
        streamed = openai_input is not None and openai_input.get("stream") is True
        if not await pool.jobs.wait(job, self._limits.answer_seconds, piece=streamed):
            return _gateway_timeout()
        _known(job)
        return openai_jobs.stream(pool.jobs, job) if streamed else openai_jobs.whole(job)

    async def health(self, request: Request) -> Response:
        """GET health: jobs and workers by state, for endpoints of both types."""
        pool = self._pool(request)
        states = Counter(worker.status for worker in pool.workers.values())
        jobs = pool.jobs if isinstance(pool, QueuePool) else None
        return JSONResponse(
            {
                "jobs": {
                    "completed": jobs.completed if jobs else 0,
                    "failed": jobs.failed if jobs else 0,
                    "inProgress": jobs.running if jobs else 0,
                    "inQueue": jobs.queued if jobs else 0,
                    "retried": jobs.retried if jobs else 0,
                },
                "workers": {
                    "idle": states["IDLE"],
                    "initializing": states["INITIALIZING"],
                    "ready": states["IDLE"] + states["RUNNING"],
                    "running": states["RUNNING"],
                    "throttled": states["THROTTLED"],
                    "unhealthy": states["UNHEALTHY"],
                },
            }
        )

    def _route(
        self, method: str, path: str, answer: Callable[[Request, QueuePool], Awaitable[Response]]
    ) -> Route:
        operation = path.partition("/")[0]

        async def answer_with_pool(request: Request) -> Response:
            return await answer(request, self._queue(request))

        def admit(request: Request) -> AbstractContextManager[None]:
            return self._rates.admit(self._queue(request).id, operation)

        return route(method, f"/{{endpoint_id}}/{path}", answer_with_pool, admit)

    def _queue(self, request: Request) -> QueuePool:
        pool = self._pool(request)
        if not isinstance(pool, QueuePool):
            raise JobError(400, "not allowed for QB API")
        return pool

    def _pool(self, request: Request) -> Pool:
        key = request.headers.get("authorization", "")
        # The key alone is taken as well as the scheme and the key.
        if not (self._is_key(key) or self._is_key(f"Bearer {key}")):
            raise JobError(401, "unauthorized")
        pool = self._pool_of(request.path_params["endpoint_id"])
        if pool is None:
            raise JobError(404, "endpoint not found")
        return pool

    def _job(self, request: Request, pool: QueuePool) -> Job:
        return pool.jobs.find(request.path_params["job_id"])

    def _order(self, document: dict[str, Any], pool: QueuePool, *, sync: bool, kept_seconds: float) -> Order:
        return orders.order(
            document,
            sync=sync,
            execution_seconds=pool.execution_seconds,
            kept_seconds=kept_seconds,
            limits=self._limits,
        )


def _known(job: Job) -> Job:
    if job.gone:
        raise JobError(404, "job not found")
    return job


def _gateway_timeout() -> Response:
    """Answer as the network in front of the platform does when nothing has come from it."""
    return PlainTextResponse("error code: 524", 524)
