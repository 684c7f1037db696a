"""RunPod's job loop, without the pauses that the SDK's own makes.

The protocol stays the SDK's: how jobs are taken, how answers and heartbeats are sent, how jobs are stopped.
What is replaced is when (runpod 1.12.0, serverless/modules/rp_scale.py):

- a job that was taken starts at once: the SDK looks for new jobs every 0.1 s, 50 ms late on average;
- when every slot is taken, the next job is asked for when one becomes free: the SDK sleeps for a second;
- a job that arrives while the worker shuts down is done, too: the SDK's loop may have ended by then;
- no job is asked for any more when vLLM has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from runpod.http_client import (  # type: ignore[import-untyped]
    AsyncClientSession,
    TooManyRequests,
)
from runpod.serverless.modules import rp_scale  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from queue_door.engine import Engine

# The platform is asked again so long after it said that it was asked too often: the SDK's own number.
_TOO_MANY_SECONDS = 5.0
_FAILED_SECONDS = 1.0
_POLL_SECONDS = 90.0
# At the end, the request for jobs that is under way is waited for: it may have been given one already.
_LAST_POLL_SECONDS = 6.0


class Loop(rp_scale.JobScaler):  # type: ignore[misc]
    """Takes jobs while there are slots, until the worker is told to stop or vLLM has ended.

    `config` has what `runpod.serverless.start` was given: besides the SDK's own `engine`, and `choose`, which
    returns the handler for a job.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._engine: Engine = config["engine"]
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()  # a job has ended, or the worker is to
        # The SDK counts in it; nothing waits in it here.
        self.jobs_queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.jobs_handler = self._handle

    async def run(self) -> None:
        """Run until the worker is to end and its jobs have."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.kill_worker)  # wakes the loop, which a plain handler may not
        async with AsyncClientSession() as session, self._engine:
            beside = [
                asyncio.create_task(self.monitor_stop_signals(session)),
                asyncio.create_task(self._watch_engine()),
            ]
            await self._take_jobs(session)
            await asyncio.gather(*self._running, return_exceptions=True)
            for task in beside:
                task.cancel()

    def kill_worker(self) -> None:
        """Take no more jobs."""
        super().kill_worker()
        self._changed.set()

    async def _take_jobs(self, session: ClientSession) -> None:
        most = self.current_concurrency = self.concurrency_modifier(1)
        while self.is_alive():
            free = most - len(self._running)
            if free > 0:
                for job in await self._poll(session, free):
                    self._start(session, job)
            else:
                self._changed.clear()
                await self._changed.wait()

    def _start(self, session: ClientSession, job: dict[str, Any]) -> None:
        self.job_progress.add(job)
        self.jobs_queue.put_nowait(job)
        task = asyncio.create_task(self.handle_job(session, self.jobs_queue.get_nowait()))
        self.jobs_tasks[job["id"]] = task
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled():
            task.exception()  # the SDK has logged it

    async def _handle(self, session: ClientSession, config: dict[str, Any], job: dict[str, Any]) -> None:
        await rp_scale.handle_job(session, {**config, "handler": config["choose"](job)}, job)

    async def _poll(self, session: ClientSession, free: int) -> list[dict[str, Any]]:
        """Ask the platform for jobs once, until it answers or the worker is to end."""
        poll = asyncio.ensure_future(self.jobs_fetcher(session, free))
        stop = asyncio.ensure_future(self._shutdown_event.wait())
        try:
            await asyncio.wait({poll, stop}, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not poll.done() and stop.done() and not self._engine.ended.done():
                await asyncio.wait({poll}, timeout=_LAST_POLL_SECONDS)
            return await self._jobs(poll) if poll.done() else []
        finally:
            poll.cancel()
            stop.cancel()

    async def _jobs(self, poll: asyncio.Future[list[dict[str, Any]] | None]) -> list[dict[str, Any]]:
        try:
            return poll.result() or []
        except TooManyRequests:
            pause = _TOO_MANY_SECONDS
        except Exception as error:  # noqa: BLE001  # whatever it is, the worker has to go on asking
            rp_scale.log.error(f"Jobs cannot be asked for: {type(error).__name__}: {error}")
            pause = _FAILED_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._shutdown_event.wait(), pause)
        return []

    async def _watch_engine(self) -> None:
        """Wait for the entrypoint's word that vLLM has ended, or for its own end."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        line = await reader.readline()
        self._engine.ended.set_result(json.loads(line) if line else "the container's entrypoint has ended")
        self.kill_worker()
