"""The least of RunPod's side of the worker protocol: gives jobs to one worker and notes when answers arrive.

It is lean on purpose: what is measured behind it is the worker.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_HOLD_SECONDS = 2.0
_NOTHING = 204


@dataclass
class Job:
    """One job on its way.

    Args:
        id: in the worker's URLs.
        input: what the client sent.
        done: set when its result is there.
        streamed: each chunk as text, with the time of its arrival (monotonic, in nanoseconds).
        result: what the worker posted last.
    """

    id: str
    input: dict[str, Any]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    streamed: list[tuple[int, str]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


class Platform:
    """Serves the worker protocol on the loopback address, in the running event loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._jobs: dict[str, Job] = {}
        self.polled = asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.add_routes(
            [
                web.get("/job-take/{worker}", self._take),
                web.get("/job-take-batch/{worker}", self._take),
                web.get("/job-stop/{worker}", self._stop),
                web.get("/ping/{worker}", self._ping),
                web.post("/job-stream/{worker}/{job}", self._stream),
                web.post("/job-done/{worker}/{job}", self._done),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> str:
        """Listen on a free port; return the base URL."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)  # all connect at once
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def run(self, job_input: dict[str, Any]) -> Job:
        """Queue a job and wait for its result."""
        job = Job(f"job-{next(self._numbers)}", job_input)
        self._jobs[job.id] = job
        self._queue.put_nowait(job)
        await job.done.wait()
        del self._jobs[job.id]
        return job

    async def _take(self, request: web.Request) -> web.Response:
        self.polled.set()
        most = int(request.query.get("batch_size", "1"))
        try:
            taken = [await asyncio.wait_for(self._queue.get(), _HOLD_SECONDS)]
        except TimeoutError:
            return web.Response(status=_NOTHING)
        while len(taken) < most and not self._queue.empty():
            taken.append(self._queue.get_nowait())
        jobs = [{"id": job.id, "input": job.input} for job in taken]
        return web.json_response(jobs if "batch_size" in request.query else jobs[0])

    async def _stop(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(_HOLD_SECONDS)
        return web.Response(status=_NOTHING)

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _stream(self, request: web.Request) -> web.Response:
        arrived = time.monotonic_ns()
        output = json.loads(await request.read())["output"]
        text = output if isinstance(output, str) else json.dumps(output)
        self._jobs[request.match_info["job"]].streamed.append((arrived, text))
        return web.Response()

    async def _done(self, request: web.Request) -> web.Response:
        job = self._jobs[request.match_info["job"]]
        job.result = json.loads(await request.read())
        job.done.set()
        return web.Response()
