"""RunPod's side of the worker protocol, for one worker: gives it jobs and keeps what it answers.

Served from a thread of its own. A job is handed out once; a second answer to it is kept as one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Coroutine

KEY = "worker-key-of-the-platform"


@dataclass
class Job:
    """A job and what the worker said about it.

    Attributes:
        chunks: each with the time of its arrival, in seconds of a monotonic clock.
        answers: what was posted as its result: one, if all is well.
    """

    id: str
    given: Any
    ended: threading.Event = field(default_factory=threading.Event)
    chunks: list[tuple[float, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, seconds: float = 20) -> dict[str, Any]:
        """Wait for the result, and return it as it was posted."""
        assert self.ended.wait(seconds), f"no answer to {self.given}"
        (answer,) = self.answers
        return answer

    def output(self) -> Any:
        """Wait for the result of a job that has done well, and return its output."""
        answer = self.answer()
        assert "error" not in answer, answer
        return answer["output"]

    def error(self) -> dict[str, Any]:
        """Wait for the result of a job that has failed, and return its error, which is JSON in a string."""
        answer = self.answer()
        assert answer.keys() == {"error"}, answer
        error: dict[str, Any] = json.loads(answer["error"])
        return error


class Platform:
    """Serves the protocol until it is closed.

    Attributes:
        url: where.
        takes: the query of every request for jobs.
        pings: the query of every heartbeat.
        keys: every Authorization header.
        polling: how many requests for jobs are held.
        hold_seconds: how long they are.
        answers_chunks: whether a chunk is answered; otherwise the worker waits for it.
    """

    def __init__(self) -> None:
        self.takes: list[dict[str, str]] = []
        self.pings: list[dict[str, str]] = []
        self.keys: set[str | None] = set()
        self.polling = 0
        self.hold_seconds = 0.5
        self.answers_chunks = True
        self._numbers = itertools.count()
        self._jobs: dict[str, Job] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, given: Any) -> Job:
        """Queue a job."""
        return self.run_all([given])[0]

    def run_all(self, inputs: list[Any]) -> list[Job]:
        """Queue some jobs at once."""
        jobs = [Job(f"job-{next(self._numbers)}", given) for given in inputs]
        self._jobs |= {job.id: job for job in jobs}

        async def queue() -> None:
            for job in jobs:
                self._queue.put_nowait(job)

        self._call(queue())
        return jobs

    def stop(self, job: Job) -> None:
        """Have the worker stop a job."""
        self._loop.call_soon_threadsafe(self._stops.put_nowait, job.id)

    @property
    def environment(self) -> dict[str, str]:
        """What the platform tells its workers."""
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{self.url}/job-take/$ID?gpu=H200",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{self.url}/job-done/$RUNPOD_POD_ID/$ID?gpu=H200",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{self.url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=H200",
            "RUNPOD_WEBHOOK_PING": f"{self.url}/ping/$RUNPOD_POD_ID?gpu=H200",
            "RUNPOD_POD_ID": "worker-1",
            "RUNPOD_ENDPOINT_ID": "endpoint-1",
            "RUNPOD_AI_API_KEY": KEY,
            "RUNPOD_PING_INTERVAL": "1000",
            # Tests have neither a GPU nor a way out to the internet.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._stops: asyncio.Queue[str] = asyncio.Queue()
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
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _end(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _take(self, request: web.Request) -> web.Response:
        self.takes.append(dict(request.query))
        self.keys.add(request.headers.get("Authorization"))
        self.polling += 1
        try:
            taken = [await asyncio.wait_for(self._queue.get(), self.hold_seconds)]
        except TimeoutError:
            return web.Response(status=204)
        finally:
            self.polling -= 1
        while len(taken) < int(request.query.get("batch_size", "1")) and not self._queue.empty():
            taken.append(self._queue.get_nowait())
        jobs = [{"id": job.id, "input": job.given} for job in taken]
        return web.json_response(jobs if "batch_size" in request.query else jobs[0])

    async def _stop(self, _request: web.Request) -> web.Response:
        try:
            job_id = await asyncio.wait_for(self._stops.get(), self.hold_seconds)
        except TimeoutError:
            return web.Response(status=204)
        return web.json_response({"jobsToStop": [job_id]})

    async def _ping(self, request: web.Request) -> web.Response:
        self.pings.append(dict(request.query))
        self.keys.add(request.headers.get("Authorization"))
        return web.Response()

    async def _stream(self, request: web.Request) -> web.Response:
        chunk = json.loads(await request.read())
        self._jobs[request.match_info["job"]].chunks.append((time.monotonic(), chunk["output"]))
        while not self.answers_chunks:
            await asyncio.sleep(0.02)
        return web.Response()

    async def _done(self, request: web.Request) -> web.Response:
        job = self._jobs[request.match_info["job"]]
        job.answers.append(json.loads(await request.read()))
        job.ended.set()
        return web.Response()
