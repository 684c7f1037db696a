"""The workers of one load-balancer endpoint, each held by the requests that it answers."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from sandbox.runpod.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.runpod.pool import Site
    from sandbox.runpod.worker import Worker


class NoWorkerError(RuntimeError):
    """A request gets no worker.

    Args:
        status: what the edge answers.
        message: in the platform's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BalancerPool(Pool):
    """Workers that requests are sent to; see `Pool` for the arguments."""

    def __init__(self, endpoint: dict[str, Any], version: int, site: Site) -> None:
        self._waiting = 0
        super().__init__(endpoint, version, site)

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Worker]:
        """Wait for a worker and hold it for one request.

        Raises:
            NoWorkerError: there is none in time, or none can be started.
        """
        worker = await self._worker()
        worker.in_flight += 1
        self._changed()
        try:
            yield worker
        finally:
            worker.in_flight -= 1
            worker.idle_since = self._clock.monotonic()
            self._changed()

    def _wanted(self, current: list[Worker]) -> int:
        demand = self._waiting + sum(worker.in_flight for worker in current)
        return math.ceil(demand / int(self._endpoint["scaling"]["requestCount"]))

    def _lost(self, _worker: Worker) -> None:
        """Do nothing: the requests that it had break off with their connections."""

    async def _worker(self) -> Worker:
        deadline = self._clock.monotonic() + self._site.limits.wait_seconds
        self._waiting += 1
        self._scale()
        try:
            while True:
                if self._closed:
                    raise NoWorkerError(404, "endpoint not found")
                ready = [worker for worker in self._current() if worker.ready]
                if ready:
                    return min(ready, key=lambda worker: worker.in_flight)
                if failed := self._failed():
                    raise NoWorkerError(502, _failure(self.id, failed))
                news = self._news.next
                try:
                    await self._clock.wait_for(news.wait(), deadline - self._clock.monotonic())
                except TimeoutError:
                    raise NoWorkerError(400, "timed out waiting for worker") from None
        finally:
            self._waiting -= 1

    def _failed(self) -> Worker | None:
        """Return a worker that gave up, while no other may still come up."""
        if self._current():
            return None
        return next((worker for worker in self.workers.values() if worker.failed), None)


def _failure(endpoint_id: str, worker: Worker) -> str:
    return (
        f"no worker available: worker {worker.id} is unhealthy; "
        f"its log is at /v2/serverless/{endpoint_id}/workers/{worker.id}/logs"
    )
