"""The workers of one queue endpoint, which come for jobs themselves."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from sandbox.runpod.jobs import Job, JobQueue
from sandbox.runpod.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.runpod.limits import JobLimits
    from sandbox.runpod.pool import Site
    from sandbox.runpod.webhooks import Webhooks
    from sandbox.runpod.worker import Worker

_PING_SECONDS = 10.0
# A worker asks again at once, so no answer comes faster than this on this machine's clock; one that is to end
# looks at its signals only between two answers.
_SHORTEST_HOLD_SECONDS = 0.2


class QueuePool(Pool):
    """Workers that take jobs from a queue.

    Args:
        endpoint, version, site: see `Pool`.
        job_url: the base URL of the job API.
        limits: the platform's on jobs.
        webhooks: takes results to where clients want them.
    """

    def __init__(
        self,
        endpoint: dict[str, Any],
        version: int,
        site: Site,
        *,
        job_url: str,
        limits: JobLimits,
        webhooks: Webhooks,
    ) -> None:
        self._url = f"{job_url}/{endpoint['id']}"
        self._limits = limits
        self._webhooks = webhooks
        self._to_stop: dict[str, list[str]] = {}
        self.key = f"rpw_{secrets.token_hex(24)}"
        self.jobs = JobQueue(
            site.clock, limits, released=self._released, finished=self._finished, changed=self._changed
        )
        super().__init__(endpoint, version, site)

    @property
    def execution_seconds(self) -> float:
        """How long a worker may have a job that says nothing of its own."""
        return float(self._endpoint["timeout"]) / 1000

    @property
    def has_flashboot(self) -> bool:
        """Whether the state of its workers is kept while there are none."""
        return bool(self._endpoint["flashboot"] != "OFF")

    async def take(self, worker: Worker, count: int) -> list[Job]:
        """Wait for jobs for a worker; return none after a while, for it to ask again."""
        return await self._hold(worker, lambda: self._give(worker, count))

    async def stops(self, worker: Worker) -> list[str]:
        """Wait for jobs that a worker is to stop; return none after a while, for it to ask again."""
        return await self._hold(worker, lambda: self._to_stop.pop(worker.id, []))

    def refresh(self, worker: Worker) -> None:
        """Replace a worker once it has nothing to do."""
        worker.spent = True
        self._changed()

    async def close(self) -> None:
        """Stop every worker and forget every job."""
        self.jobs.close()
        await super().close()

    async def _hold(self, worker: Worker, look: Callable[[], list[Any]]) -> list[Any]:
        now = asyncio.get_running_loop().time
        deadline = now() + max(self._clock.real(self._limits.poll_seconds), _SHORTEST_HOLD_SECONDS)
        while True:
            news = self._news.next
            if found := look():
                return found
            if worker.draining:
                await asyncio.sleep(_SHORTEST_HOLD_SECONDS)
                return []
            try:
                async with asyncio.timeout_at(deadline):
                    await news.wait()
            except TimeoutError:
                return []

    def _give(self, worker: Worker, count: int) -> list[Job]:
        worker.become_ready()
        if not self._is_current(worker) or not worker.ready:
            return []
        taken = self.jobs.take(worker.id, count)
        worker.in_flight += len(taken)
        return taken

    def _released(self, job_id: str, worker_id: str, stop: bool) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None:
            worker.in_flight -= 1
            worker.idle_since = self._clock.monotonic()
            if stop:
                self._to_stop.setdefault(worker_id, []).append(job_id)

    def _finished(self, job: Job) -> None:
        if job.order.webhook is not None:
            self._webhooks.post(job.order.webhook, job.document())

    def _lost(self, worker: Worker) -> None:
        self._to_stop.pop(worker.id, None)
        self.jobs.worker_lost(worker.id)

    def _wanted(self, current: list[Worker]) -> int:
        scaling = self._endpoint["scaling"]
        if scaling["type"] == "REQUEST_COUNT":
            return math.ceil((self.jobs.waiting + self.jobs.running) / int(scaling["requestCount"]))
        busy = sum(worker.in_flight > 0 for worker in current)
        if not self.jobs.waiting:
            return busy
        since_start_seconds = self._clock.monotonic() - self._last_start
        if min(self.jobs.longest_wait_seconds, since_start_seconds) >= scaling["queueDelay"]:
            return len(current) + 1
        return max(busy, 1)  # where there is no worker at all, there is nothing to wait for

    def _environment(self) -> Mapping[str, str]:
        query = f"gpu={quote_plus(self._deployment.gpu_type or 'CPU')}"
        ping_seconds = max(self._clock.real(_PING_SECONDS), 1.0)  # the SDK rounds down to whole seconds
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{self._url}/job-take/$ID?{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{self._url}/job-done/$RUNPOD_POD_ID/$ID?{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{self._url}/job-stream/$RUNPOD_POD_ID/$ID?{query}",
            "RUNPOD_WEBHOOK_PING": f"{self._url}/ping/$RUNPOD_POD_ID?{query}",
            "RUNPOD_PING_INTERVAL": f"{ping_seconds * 1000:.0f}",
            "RUNPOD_AI_API_KEY": self.key,
            # The SDK's own checks at start ask for a GPU and a way to the internet: the sandbox has neither.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }
