"""REST v2: a worker's log as server-sent events, from where the caller wants it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from sandbox.runpod import query
from sandbox.runpod.problems import not_found, unprocessable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request

    from sandbox.runpod.logbook import Line, Logbook
    from sandbox.runpod.pool import Pool

_INTERVAL_SECONDS = 0.2
_HEADERS = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}


class WorkerLogs:
    """The route of every worker's log.

    Args:
        pools: the workers of every endpoint, by endpoint id.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools

    async def stream(self, request: Request) -> Response:
        """GET /serverless/{id}/workers/{worker_id}/logs; the log of a worker that is gone ends by itself."""
        endpoint_id, worker_id = request.path_params["id"], request.path_params["worker_id"]
        pool = self._pools.get(endpoint_id)
        if pool is None:
            raise not_found(f"endpoint {endpoint_id!r}")
        log = pool.log(worker_id)
        if log is None:
            raise not_found(f"worker {worker_id!r}")
        parameters = query.parse(query.LogQuery, request)
        log.collect()
        start = _line_before(parameters, request.headers.get("last-event-id"), log)

        def live() -> bool:
            worker = pool.workers.get(worker_id)
            return worker is not None and not worker.failed

        return StreamingResponse(
            _events(log, start, parameters.source, live), media_type="text/event-stream", headers=_HEADERS
        )


def _line_before(parameters: query.LogQuery, last_event_id: str | None, log: Logbook) -> int:
    """Return the number of the line after which the stream begins.

    Raises:
        Problem: the cursor is not a time.
    """
    if last_event_id is not None:
        time, _, number = last_event_id.partition("/")
        try:
            seen = query.instant(time)
        except ValueError as error:
            raise unprocessable(f"$.header.Last-Event-ID: {error}") from error
        if number.isdecimal():
            return int(number)
        return max((line.number for line in log.lines if query.instant(line.time) <= seen), default=0)
    if parameters.since is not None:
        since = parameters.since
        return max((line.number for line in log.lines if query.instant(line.time) < since), default=0)
    lines = log.after(0, parameters.source)
    kept = lines[max(len(lines) - parameters.tail, 0) :]
    if kept:
        return kept[0].number - 1
    return lines[-1].number if lines else 0


async def _events(
    log: Logbook, start: int, source: str | None, live: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield lines as they come, until no more can."""
    number = start
    while True:
        more = live()
        log.collect()
        for line in log.after(number, source):
            yield _event(line)
            number = line.number
        if not more:
            return
        await asyncio.sleep(_INTERVAL_SECONDS)


def _event(line: Line) -> bytes:
    data = json.dumps({"ts": line.time, "source": line.source, "line": line.text})
    return f"id: {line.time}/{line.number:012d}\ndata: {data}\n\n".encode()
