"""Answers OpenAI requests with what a job came to: the worker's own body and status, or its events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.runpod.jobs import Job, JobQueue


def whole(job: Job) -> Response:
    """Return the answer to a request without a stream: the first piece of the job's output.

    Args:
        job: one that has its answer.
    """
    if job.status != "COMPLETED":
        document, status = _error(job)
        return JSONResponse(document, status)
    pieces = _pieces(job)
    return JSONResponse(pieces[0] if pieces else None)


def stream(jobs: JobQueue, job: Job) -> Response:
    """Return the answer to a request with a stream: pieces as they come, or the error that came before any.

    Args:
        jobs: the endpoint's.
        job: one that has a piece, or its answer.
    """
    if job.is_final and job.status != "COMPLETED" and not job.chunks:
        return whole(job)
    return StreamingResponse(
        _events(jobs, job), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


async def _events(jobs: JobQueue, job: Job) -> AsyncIterator[str]:
    if not job.chunks:  # the worker has no generator for a handler: all is there at once
        job.chunks.extend(_pieces(job))
    losses = job.losses
    while True:
        news = job.news.next
        if job.losses != losses:
            # What has been sent cannot be taken back, and another worker would say it again.
            jobs.cancel(job)
        for piece in job.drain():
            yield piece if isinstance(piece, str) else _event(piece)
        if job.is_final or job.gone:
            break
        await news.wait()
    if job.status != "COMPLETED":
        document, _ = _error(job)
        yield _event(document)


def _pieces(job: Job) -> list[Any]:
    """Return the output; a handler that yields and does not aggregate has left it in the stream alone."""
    output = job.result.get("output")
    if not isinstance(output, list):
        return [output]
    return output or job.drain()


def _event(document: Any) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _error(job: Job) -> tuple[dict[str, Any], int]:
    """Return an error's body and HTTP status: those that the worker names, where it names any."""
    error = job.result.get("error", f"job is {job.status}")
    if isinstance(error, str):
        try:
            error = json.loads(error)
        except ValueError:
            error = {"message": error, "type": "job_error", "code": None}
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return {"error": error}, code if isinstance(code, int) and 400 <= code <= 599 else 500
