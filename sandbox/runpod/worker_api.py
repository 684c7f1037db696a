"""The protocol that workers of queue endpoints speak: they take jobs, post results, say that they live."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from sandbox.runpod.jobs import Job, JobError
from sandbox.runpod.operations import parse, query_number, read, route, unless_gone
from sandbox.runpod.queue_pool import QueuePool

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.faults import Faults
    from sandbox.runpod.limits import JobLimits
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.worker import Worker

_LARGEST_BATCH = 10_000


class WorkerApi:
    """The operations of workers.

    Args:
        pool_of: returns an endpoint's workers.
        faults: those that leave questions for jobs without an answer.
        limits: the platform's.
    """

    def __init__(self, pool_of: Callable[[str], Pool | None], faults: Faults, limits: JobLimits) -> None:
        self._pool_of = pool_of
        self._faults = faults
        self._limits = limits

    def routes(self) -> list[Route]:
        """Return the routes below the job API's base."""
        one = "/{endpoint_id}"
        return [
            route("GET", f"{one}/job-take/{{worker_id}}", self.take),
            route("GET", f"{one}/job-take-batch/{{worker_id}}", self.take_batch),
            route("GET", f"{one}/job-stop/{{worker_id}}", self.stop),
            route("POST", f"{one}/job-done/{{worker_id}}/{{job_id}}", self.done),
            route("POST", f"{one}/job-stream/{{worker_id}}/{{job_id}}", self.stream),
            route("GET", f"{one}/ping/{{worker_id}}", self.ping),
        ]

    async def take(self, request: Request) -> Response:
        """GET job-take: one job, or none after a while."""
        pool, jobs = await self._take(request, 1)
        return JSONResponse(jobs[0]) if jobs else _none(pool)

    async def take_batch(self, request: Request) -> Response:
        """GET job-take-batch: a list of jobs, or none after a while."""
        pool, jobs = await self._take(request, query_number(request, "batch_size", 1, _LARGEST_BATCH, 1))
        return JSONResponse(jobs) if jobs else _none(pool)

    async def stop(self, request: Request) -> Response:
        """GET job-stop: ids of jobs to stop, or 204 after a while."""
        pool, worker = self._worker(request)
        job_ids = await unless_gone(request, pool.stops(worker))
        return JSONResponse({"jobsToStop": job_ids}) if job_ids else Response(status_code=204)

    async def done(self, request: Request) -> Response:
        """POST job-done: a job's answer, or how far it is.

        What comes of a job that this worker does not have is taken and dropped: it is answered already, or
        another worker has it.
        """
        pool, worker = self._worker(request)
        # The body is JSON whatever its content type says: the SDK declares a form.
        document = parse(await read(request, self._limits.sync_bytes))
        job = pool.jobs.held(worker.id, request.path_params["job_id"])
        if job is not None and document.get("status") == "IN_PROGRESS":
            job.result = {"output": document.get("output")}
        elif job is not None:
            result = {key: document[key] for key in ("output", "error") if document.get(key) is not None}
            pool.jobs.answer(job, result)
        if document.get("stopPod"):
            pool.refresh(worker)
        return JSONResponse({})

    async def stream(self, request: Request) -> Response:
        """POST job-stream: the next piece of a job's output."""
        pool, worker = self._worker(request)
        document = parse(await read(request, self._limits.chunk_bytes))
        job = pool.jobs.held(worker.id, request.path_params["job_id"])
        if job is not None:
            job.chunks.append(document.get("output"))
            job.news.tell()
        return JSONResponse({})

    async def ping(self, request: Request) -> Response:
        """GET ping: the worker lives, and has these jobs; or it says that it is not well."""
        pool, worker = self._worker(request)
        query = request.query_params
        if query.get("status") == "unhealthy":
            worker.complain(f"{query.get('check', 'unknown check')}: {query.get('reason', 'no reason')}")
        else:
            pool.jobs.pinged(worker.id, set(query.get("job_id", "").split(",")))
        return JSONResponse({})

    async def _take(self, request: Request, count: int) -> tuple[QueuePool, list[dict[str, Any]]]:
        pool, worker = self._worker(request)
        if self._faults.take("hang_poll", pool.id):
            await unless_gone(request, self._faults.forgotten())
            return pool, []
        jobs = await unless_gone(request, pool.take(worker, count))
        return pool, [_for_worker(job) for job in jobs or ()]

    def _worker(self, request: Request) -> tuple[QueuePool, Worker]:
        pool = self._pool_of(request.path_params["endpoint_id"])
        if not isinstance(pool, QueuePool):
            raise JobError(404, "endpoint not found")
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), pool.key.encode()):
            raise JobError(401, "unauthorized")
        worker = pool.workers.get(request.path_params["worker_id"])
        if worker is None:
            raise JobError(404, "worker not found")
        return pool, worker


def _none(pool: QueuePool) -> Response:
    """Say that there is no job: with FlashBoot by the status of a bad request, which workers expect."""
    return Response(status_code=400 if pool.has_flashboot else 204)


def _for_worker(job: Job) -> dict[str, Any]:
    document: dict[str, Any] = {"id": job.id}
    if job.order.input is not None:
        document["input"] = job.order.input
    if job.order.webhook is not None:
        document["webhook"] = job.order.webhook
    return document
