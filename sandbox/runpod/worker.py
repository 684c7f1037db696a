"""One worker of an endpoint: its container, its health, its restarts, and the reason when it gives up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx

from sandbox.runpod.launcher import LaunchError
from sandbox.runpod.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.deployment import Deployment
    from sandbox.runpod.launcher import Launch, Launcher, Running

Status = Literal["INITIALIZING", "IDLE", "RUNNING", "THROTTLED", "UNHEALTHY"]

_STARTS = 3
_BACK_OFF_SECONDS = (1.0, 2.0)
# How often this machine looks is no matter of the platform's time.
_HEALTH_INTERVAL_SECONDS = {True: 2.0, False: 0.2}
_POLL_SECONDS = 0.1
_UNHEALTHY_AFTER = 3
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Surroundings:
    """What a worker has around it.

    Args:
        launcher: starts its container.
        clock: the platform's time.
        has_capacity: says whether there is a machine for a new worker.
        changed: called after every change of status.
        placed: called with the worker when it has its machine, which it keeps until it is stopped.
        lost: called with the worker when its container has ended, with whatever it was at.
    """

    launcher: Launcher
    clock: Clock
    has_capacity: Callable[[], bool]
    changed: Callable[[], None]
    placed: Callable[[Worker], None]
    lost: Callable[[Worker], None]


class Worker:
    """A worker and its supervision, which runs as a task until it is stopped or gives up.

    Args:
        launch: its container.
        deployment: the release that it belongs to.
        around: what it has around it.
    """

    def __init__(self, launch: Launch, deployment: Deployment, around: Surroundings) -> None:
        self.id = launch.name
        self.launch = launch
        self.deployment = deployment
        self.log = Logbook(launch.log_path)
        self.ready = False
        self.failed = False
        self.draining = False
        self.spent = False
        self.in_flight = 0
        self.idle_since = around.clock.monotonic()
        self._throttled = False
        self._complaint = False
        self._was_ready = False
        self._began = 0.0
        self._started: tuple[float, datetime] | None = None
        self._around = around
        self._clock = around.clock
        self._container: Running | None = None
        self._task = asyncio.create_task(self._supervise(), name=f"worker {self.id}")

    @property
    def url(self) -> str:
        """Where it takes requests."""
        return f"http://{self.launch.address}:{self.deployment.port}"

    @property
    def status(self) -> Status:
        """What the platform calls its condition."""
        if self.failed or self._complaint:
            return "UNHEALTHY"
        if self._throttled:
            return "THROTTLED"
        if not self.ready:
            return "INITIALIZING"
        return "RUNNING" if self.in_flight else "IDLE"

    def document(self, version: int) -> dict[str, Any]:
        """Return it as the API shows it.

        Args:
            version: of the endpoint's newest release.
        """
        placed = self._started
        return {
            "id": self.id,
            "status": self.status,
            "isStale": self.deployment.version != version,
            "version": self.deployment.version,
            "gpuCount": self.deployment.gpu_count,
            "image": self.deployment.image,
            "uptimeSeconds": int(self._clock.monotonic() - placed[0]) if placed else None,
            "gpuTypeId": self.deployment.gpu_type if placed else None,
            "dataCenterId": None,
            "startedAt": placed[1].strftime("%Y-%m-%dT%H:%M:%SZ") if placed else None,
        }

    async def stop(self) -> None:
        """Stop the container with time to finish, and forget its folder."""
        self.draining = True
        self._around.changed()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._around.changed()

    async def kill(self) -> None:
        """Kill the container as a machine that fails does; its supervision goes on."""
        if self._container is not None:
            await asyncio.to_thread(self._container.kill)

    def become_ready(self) -> None:
        """Note that it takes requests from now on; does nothing where that is known."""
        if self.ready or self.draining or self._container is None:
            return
        self.ready, self._was_ready, self._complaint = True, True, False
        self.idle_since = self._clock.monotonic()
        self.log.system(f"worker is ready after {self.idle_since - self._began:.1f} s")
        self._around.changed()

    def complain(self, reason: str) -> None:
        """Note that it says of itself that it is not well."""
        self.ready, self._complaint = False, True
        self.log.system(f"worker is unhealthy: {reason}")
        self._around.changed()

    def connection_lost(self) -> None:
        """Take it out of use at once; its supervision finds out why, or that it is well."""
        self.ready = False
        self._around.changed()

    async def _supervise(self) -> None:
        try:
            await self._find_place()
            failures = 0
            while failures < _STARTS:
                await self._live()
                failures = 1 if self._was_ready else failures + 1
                if failures < _STARTS:
                    await self._clock.sleep(_BACK_OFF_SECONDS[failures - 1])
            self.failed = True
            self.log.system(f"worker is unhealthy: given up after {_STARTS} starts")
            self._around.changed()
        finally:
            await self._end()

    async def _find_place(self) -> None:
        while not self._around.has_capacity():
            if not self._throttled:
                self._throttled = True
                self.log.system("worker is throttled: no capacity in the endpoint's pools and data centers")
                self._around.changed()
            await asyncio.sleep(_POLL_SECONDS)
        self._throttled = False
        self._started = (self._clock.monotonic(), self._clock.now())
        self._around.placed(self)
        self._around.changed()

    async def _live(self) -> None:
        """Run the container once, from its start until it has ended or must end."""
        self._was_ready, self._began = False, self._clock.monotonic()
        self.log.system(f"starting container with image {self.deployment.image}")
        try:
            # Not to be cancelled half way: a container that is started must be known to be stopped.
            start = asyncio.ensure_future(asyncio.to_thread(self._around.launcher.start, self.launch))
            try:
                self._container = await asyncio.shield(start)
            except asyncio.CancelledError:
                with contextlib.suppress(LaunchError):
                    self._container = await start
                raise
        except LaunchError as error:
            self.log.system(f"container cannot be started: {error}")
            return
        self._around.changed()  # a question for a job may be there already
        self.log.system(await self._watch(self._container))
        self.ready = False
        self._around.changed()
        await self._end()

    async def _watch(self, container: Running) -> str:
        """Follow its health until it has to be stopped; return why."""
        asked = time.monotonic()
        refusals = 0
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                status = container.poll()
                if status is not None:
                    return f"container exited with status {status}"
                if (
                    not self._was_ready
                    and self._clock.monotonic() - self._began > self.deployment.init_seconds
                ):
                    return f"worker was not ready within {self.deployment.init_seconds:.0f} s"
                if self.deployment.health_port is None:
                    continue
                if time.monotonic() - asked < _HEALTH_INTERVAL_SECONDS[self.ready]:
                    continue
                asked = time.monotonic()
                health = await self._health(http)
                if health == 200:
                    refusals = 0
                    self.become_ready()
                elif self._was_ready:
                    refusals += 1
                    if refusals >= _UNHEALTHY_AFTER:
                        return f"health check failed {refusals} times (last: {health or 'no connection'})"

    async def _health(self, http: httpx.AsyncClient) -> int | None:
        url = f"http://{self.launch.address}:{self.deployment.health_port}{self.deployment.health_path}"
        try:
            return (await http.get(url)).status_code
        except httpx.HTTPError:
            return None

    async def _end(self) -> None:
        """Stop the container; called again when it was interrupted, until the container is gone."""
        self.ready = False
        if self._container is not None:
            await asyncio.to_thread(self._container.stop, _STOP_SECONDS)
            await asyncio.to_thread(self._container.remove)
            self._container = None
            self.ready = False  # a queue's worker may have asked for a job on its way out
            self._around.lost(self)
        self.log.collect()
