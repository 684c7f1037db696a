"""The workers of one endpoint: supervised, replaced at a release, as many as its type's scaling asks for."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.runpod.deployment import Deployment
from sandbox.runpod.endpoints import new_id
from sandbox.runpod.launcher import Launch
from sandbox.runpod.news import News
from sandbox.runpod.worker import Surroundings, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandbox.runpod.billing import Meter
    from sandbox.runpod.clock import Clock
    from sandbox.runpod.faults import Faults
    from sandbox.runpod.launcher import Launcher
    from sandbox.runpod.limits import Limits
    from sandbox.runpod.logbook import Logbook

_TICK_SECONDS = 0.2
_KEPT_LOGS = 20
# A queue that scales by its number of requests takes no idle timeout; the platform's shortest is a second.
_IDLE_SECONDS = 5.0


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


@dataclass(frozen=True)
class Site:
    """What the workers of all endpoints share.

    Args:
        launcher: starts containers.
        addresses: where workers listen.
        directory: for the folders and logs of workers.
        clock: the platform's time.
        faults: those that act on workers.
        meter: counts what workers cost.
        limits: the platform's.
    """

    launcher: Launcher
    addresses: Addresses
    directory: Path
    clock: Clock
    faults: Faults
    meter: Meter
    limits: Limits


class Pool(abc.ABC):
    """The workers of one endpoint.

    Args:
        endpoint: as the API shows it.
        version: of its newest release.
        site: what it shares with the other endpoints.
    """

    def __init__(self, endpoint: dict[str, Any], version: int, site: Site) -> None:
        self.id = str(endpoint["id"])
        self.workers: dict[str, Worker] = {}
        self._old_logs: deque[tuple[str, Logbook]] = deque(maxlen=_KEPT_LOGS)
        self._site = site
        self._clock = site.clock
        self._retry_at = 0.0
        self._last_start = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = News()
        self._closed = False
        self._endpoint = endpoint
        self._deployment = Deployment.of(endpoint, version, site.limits)
        self._task = asyncio.create_task(self._run(), name=f"pool {self.id}")

    @abc.abstractmethod
    def _wanted(self, current: list[Worker]) -> int:
        """Return how many workers the requests of the moment need.

        Args:
            current: those that may take requests now or once they are ready.
        """

    def _environment(self) -> Mapping[str, str]:
        """Return what the platform sets for a worker beside its id."""
        return {}

    @abc.abstractmethod
    def _lost(self, worker: Worker) -> None:
        """Take back what a worker was at when its container ended."""

    def apply(self, endpoint: dict[str, Any], version: int) -> None:
        """Take up a change of the endpoint; workers of an older release end when they have nothing to do."""
        self._endpoint = endpoint
        if version != self._deployment.version:
            self._deployment = Deployment.of(endpoint, version, self._site.limits)
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

    async def close(self) -> None:
        """Stop every worker and answer whoever waits for one."""
        self._closed = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for worker in list(self.workers.values()):
            if not worker.draining:  # one that is being stopped is waited for below
                self._stop(worker)
        self._changed()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _changed(self) -> None:
        self._news.tell()

    def _current(self) -> list[Worker]:
        """Return the workers that may take requests now or once they are ready."""
        return [worker for worker in self.workers.values() if self._is_current(worker)]

    def _is_current(self, worker: Worker) -> bool:
        stays = not (worker.failed or worker.draining or worker.spent)
        return stays and worker.deployment is self._deployment

    async def _run(self) -> None:
        while True:
            news = self._news.next
            self._suffer()
            self._scale()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS if self.workers else None):
                    await news.wait()

    def _suffer(self) -> None:
        """Let the faults that were asked for kill workers: a busy one first."""
        alive = [worker for worker in self.workers.values() if worker.ready]
        alive.sort(key=lambda worker: -worker.in_flight)
        for worker in alive:
            if not self._site.faults.take("kill_worker", self.id):
                return
            worker.ready = False
            worker.log.system("worker's machine failed")
            self._begin(worker.kill(), f"kill worker {worker.id}")

    def _scale(self) -> None:
        """Start and stop workers so that they are as many as the requests need, within min and max."""
        if self._closed:
            return
        limits = self._endpoint["workers"]
        self._retire()
        current = self._current()
        wanted = min(max(self._wanted(current), limits["min"]), limits["max"])
        if wanted > len(current) and self._may_start():
            for _ in range(wanted - len(current)):
                self._start()
        idle = sorted(
            (worker for worker in current if not worker.in_flight), key=lambda worker: worker.idle_since
        )
        spare = len(current) - wanted
        for worker in idle[: max(spare, 0)]:
            too_many = len(current) > limits["max"]
            rest_seconds = self._clock.monotonic() - worker.idle_since
            if too_many or (worker.ready and rest_seconds >= limits.get("idleTimeout", _IDLE_SECONDS)):
                worker.log.system("worker is idle and scaled down")
                self._stop(worker)
                current.remove(worker)

    def _retire(self) -> None:
        """Stop workers of older releases, and those that asked for it, once they have nothing to do."""
        for worker in list(self.workers.values()):
            stale = worker.deployment is not self._deployment
            if worker.draining or worker.in_flight or not (stale or worker.spent):
                continue
            worker.log.system(f"worker is replaced {'by a new release' if stale else 'as it asked to be'}")
            self._stop(worker)

    def _may_start(self) -> bool:
        """Hold off new workers for a while after one gave up."""
        failed = [worker for worker in self.workers.values() if worker.failed and not worker.draining]
        if not failed:
            return True
        if not self._retry_at:
            self._retry_at = self._clock.monotonic() + self._site.limits.retry_seconds
        if self._clock.monotonic() < self._retry_at:
            return False
        self._retry_at = 0.0
        for worker in failed:
            self._stop(worker)
        return True

    def _start(self) -> None:
        worker_id = new_id()
        deployment, site = self._deployment, self._site
        launch = Launch(
            name=worker_id,
            image=deployment.image,
            args=deployment.args,
            env={
                **deployment.env,
                "RUNPOD_ENDPOINT_ID": self.id,
                "RUNPOD_POD_ID": worker_id,
                "RUNPOD_GPU_COUNT": str(deployment.gpu_count),
                **self._environment(),
            },
            address=site.addresses.take(),
            directory=site.directory / worker_id / "container",
            log_path=site.directory / worker_id / "container.log",
        )
        around = Surroundings(
            launcher=site.launcher,
            clock=site.clock,
            has_capacity=lambda: not site.faults.lasts("no_capacity", self.id),
            changed=self._changed,
            placed=self._placed,
            lost=self._lost,
        )
        self.workers[worker_id] = Worker(launch, deployment, around)
        self._last_start = self._clock.monotonic()

    def _placed(self, worker: Worker) -> None:
        self._site.meter.start(worker.id, self._endpoint, worker.deployment.gpu_type)

    def _stop(self, worker: Worker) -> None:
        worker.draining = True

        async def stop() -> None:
            await worker.stop()
            await asyncio.to_thread(shutil.rmtree, self._site.directory / worker.id, ignore_errors=True)
            self._site.addresses.give_back(worker.launch.address)
            self.workers.pop(worker.id, None)
            self._site.meter.stop(worker.id)
            self._old_logs.append((worker.id, worker.log))
            self._changed()

        self._begin(stop(), f"stop worker {worker.id}")

    def _begin(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
