"""The workers of one load-balancer endpoint: as many as its requests need, from zero and back to zero."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import shutil
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.runpod import catalogue
from sandbox.runpod.endpoints import new_id
from sandbox.runpod.launcher import Launch
from sandbox.runpod.worker import Deployment, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandbox.runpod.launcher import Launcher
    from sandbox.runpod.logbook import Logbook

_TICK_SECONDS = 0.2
_KEPT_LOGS = 20


@dataclass(frozen=True)
class Limits:
    """The platform's limits on load-balancer endpoints.

    Args:
        wait_seconds: how long a request waits for a worker.
        request_seconds: how long it may take in all.
        payload_bytes: of a request, and of a response.
        init_seconds: how long a worker may take until it is ready.
        retry_seconds: after workers failed to start, how long until a request makes the platform try again.
    """

    wait_seconds: float = 120.0
    request_seconds: float = 330.0
    payload_bytes: int = 30 * 1000 * 1000
    init_seconds: float = 420.0
    retry_seconds: float = 30.0


class NoWorkerError(RuntimeError):
    """A request gets no worker.

    Args:
        status: what the edge answers.
        message: in the platform's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Addresses:
    """The loopback addresses of the workers of all endpoints.

    Args:
        block: the sandbox's loopback block, 0 to 250.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._taken: set[str] = set()

    def take(self) -> str:
        """Return a free address."""
        address = next(
            candidate
            for candidate in (f"127.{self._block}.3.{number}" for number in range(1, 255))
            if candidate not in self._taken
        )
        self._taken.add(address)
        return address

    def give_back(self, address: str) -> None:
        """Make an address free again."""
        self._taken.discard(address)


class Pool:
    """The workers of one endpoint.

    Args:
        endpoint: as the API shows it.
        version: of its newest release.
        launcher: starts containers.
        addresses: where workers listen.
        directory: for the folders and logs of workers.
        limits: the platform's.
    """

    def __init__(
        self,
        endpoint: dict[str, Any],
        version: int,
        *,
        launcher: Launcher,
        addresses: Addresses,
        directory: Path,
        limits: Limits,
    ) -> None:
        self.id = str(endpoint["id"])
        self.workers: dict[str, Worker] = {}
        self._old_logs: deque[tuple[str, Logbook]] = deque(maxlen=_KEPT_LOGS)
        self._launcher = launcher
        self._addresses = addresses
        self._directory = directory
        self._limits = limits
        self._waiting = 0
        self._retry_at = 0.0
        self._stops: set[asyncio.Task[None]] = set()
        self._condition = asyncio.Event()
        self._closed = False
        self._endpoint = endpoint
        self._deployment = _deployment(endpoint, version, limits)
        self._task = asyncio.create_task(self._run(), name=f"pool {self.id}")

    def apply(self, endpoint: dict[str, Any], version: int) -> None:
        """Take up a change of the endpoint; workers of an older release end when they have nothing to do."""
        self._endpoint = endpoint
        if version != self._deployment.version:
            self._deployment = _deployment(endpoint, version, self._limits)
            self._retry_at = 0.0
        self._changed()

    @property
    def version(self) -> int:
        """The newest release's number."""
        return self._deployment.version

    def log(self, worker_id: str) -> Logbook | None:
        """Return the log of a worker that is here, or was of late."""
        if worker_id in self.workers:
            return self.workers[worker_id].log
        return dict(self._old_logs).get(worker_id)

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
            worker.idle_since = time.monotonic()
            self._changed()

    async def close(self) -> None:
        """Stop every worker and answer whoever waits for one."""
        self._closed = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for worker in list(self.workers.values()):
            self._stop(worker)
        self._changed()
        while self._stops:
            await asyncio.wait(self._stops)

    def _changed(self) -> None:
        """Wake whoever waits: each waiter takes the event that it found."""
        self._condition.set()
        self._condition = asyncio.Event()

    async def _worker(self) -> Worker:
        deadline = time.monotonic() + self._limits.wait_seconds
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
                condition = self._condition
                left = deadline - time.monotonic()
                try:
                    await asyncio.wait_for(condition.wait(), left)
                except TimeoutError:
                    raise NoWorkerError(400, "timed out waiting for worker") from None
        finally:
            self._waiting -= 1

    def _current(self) -> list[Worker]:
        """Return the workers that may take requests now or once they are ready."""
        return [
            worker
            for worker in self.workers.values()
            if worker.deployment is self._deployment and not worker.failed and not worker.draining
        ]

    def _failed(self) -> Worker | None:
        """Return a worker that gave up, while no other may still come up."""
        if self._current():
            return None
        return next((worker for worker in self.workers.values() if worker.failed), None)

    async def _run(self) -> None:
        while True:
            condition = self._condition
            self._scale()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(condition.wait(), _TICK_SECONDS if self.workers else None)

    def _scale(self) -> None:
        """Start and stop workers so that they are as many as the requests need, within min and max."""
        if self._closed:
            return
        limits, scaling = self._endpoint["workers"], self._endpoint["scaling"]
        self._retire()
        current = self._current()
        demand = self._waiting + sum(worker.in_flight for worker in current)
        wanted = min(max(math.ceil(demand / scaling["requestCount"]), limits["min"]), limits["max"])
        if wanted > len(current) and self._may_start():
            for _ in range(wanted - len(current)):
                self._start()
        idle = sorted(
            (worker for worker in current if not worker.in_flight), key=lambda worker: worker.idle_since
        )
        spare = len(current) - wanted
        for worker in idle[: max(spare, 0)]:
            too_many = len(current) > limits["max"]
            rested = time.monotonic() - worker.idle_since >= limits["idleTimeout"]
            if too_many or (worker.ready and rested):
                worker.log.system("worker is idle and scaled down")
                self._stop(worker)
                current.remove(worker)

    def _retire(self) -> None:
        """Stop workers of older releases that have nothing to do, and failed ones that are to be replaced."""
        for worker in list(self.workers.values()):
            if worker.draining:
                continue
            stale = worker.deployment is not self._deployment
            if stale and not worker.in_flight:
                worker.log.system("worker is replaced by a new release")
                self._stop(worker)

    def _may_start(self) -> bool:
        """Hold off new workers for a while after one gave up."""
        failed = [worker for worker in self.workers.values() if worker.failed and not worker.draining]
        if not failed:
            return True
        if not self._retry_at:
            self._retry_at = time.monotonic() + self._limits.retry_seconds
        if time.monotonic() < self._retry_at:
            return False
        self._retry_at = 0.0
        for worker in failed:
            self._stop(worker)
        return True

    def _start(self) -> None:
        worker_id = new_id()
        endpoint, deployment = self._endpoint, self._deployment
        launch = Launch(
            name=worker_id,
            image=deployment.image,
            args=deployment.args,
            env={
                **deployment.env,
                "RUNPOD_ENDPOINT_ID": str(endpoint["id"]),
                "RUNPOD_POD_ID": worker_id,
                "RUNPOD_GPU_COUNT": str(deployment.gpu_count),
            },
            address=self._addresses.take(),
            directory=self._directory / worker_id / "container",
            log_path=self._directory / worker_id / "container.log",
        )
        self.workers[worker_id] = Worker(launch, deployment, self._launcher, self._changed)

    def _stop(self, worker: Worker) -> None:
        worker.draining = True

        async def stop() -> None:
            await worker.stop()
            await asyncio.to_thread(shutil.rmtree, self._directory / worker.id, ignore_errors=True)
            self._addresses.give_back(worker.launch.address)
            self.workers.pop(worker.id, None)
            self._old_logs.append((worker.id, worker.log))
            self._changed()

        task = asyncio.create_task(stop(), name=f"stop worker {worker.id}")
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)


def _failure(endpoint_id: str, worker: Worker) -> str:
    return (
        f"no worker available: worker {worker.id} is unhealthy; "
        f"its log is at /v2/serverless/{endpoint_id}/workers/{worker.id}/logs"
    )


def _number(text: str | None, default: float) -> int:
    """Read a variable of the endpoint; what is no number is as if it were not set."""
    return int(text) if text is not None and text.isdecimal() else int(default)


def _deployment(endpoint: dict[str, Any], version: int, limits: Limits) -> Deployment:
    env = endpoint["env"]
    port = _number(env.get("PORT"), 80)
    gpu = endpoint.get("gpu")
    gpu_type = None
    if gpu:
        excluded = gpu.get("excludedTypes", ())
        gpu_type = next(
            name for pool in gpu["pools"] for name in catalogue.types_of(pool) if name not in excluded
        )
    return Deployment(
        version=version,
        image=endpoint["image"],
        args=tuple(shlex.split(endpoint["args"])) or None,
        env=env,
        port=port,
        health_port=_number(env.get("PORT_HEALTH"), port),
        health_path=env.get("HEALTH_CHECK_PATH", "/ping"),
        init_seconds=_number(env.get("RUNPOD_INIT_TIMEOUT"), limits.init_seconds),
        gpu_type=gpu_type,
        gpu_count=gpu["count"] if gpu else 0,
    )
