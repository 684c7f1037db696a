"""One worker of an endpoint: its container, its health, its restarts, and the reason when it gives up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx

from sandbox.runpod.endpoints import now
from sandbox.runpod.launcher import Launch, LaunchError
from sandbox.runpod.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.runpod.launcher import Launcher, Running

Status = Literal["INITIALIZING", "IDLE", "RUNNING", "UNHEALTHY"]

_STARTS = 3
_BACK_OFF_SECONDS = (1.0, 2.0)
_HEALTH_INTERVAL_SECONDS = {True: 2.0, False: 0.2}
_POLL_SECONDS = 0.1
_UNHEALTHY_AFTER = 3
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Deployment:
    """What the workers of one release run.

    Args:
        version: the release's number.
        image, args, env: the container's.
        port: where it takes requests.
        health_port, health_path: where it says whether it can: 200 yes, 204 not yet.
        init_seconds: how long "not yet" is borne.
        gpu_type, gpu_count: what the worker claims to have.
    """

    version: int
    image: str
    args: tuple[str, ...] | None
    env: Mapping[str, str]
    port: int
    health_port: int
    health_path: str
    init_seconds: float
    gpu_type: str | None
    gpu_count: int


class Worker:
    """A worker and its supervision, which runs as a task until it is stopped or gives up.

    Args:
        launch: its container.
        deployment: the release that it belongs to.
        launcher: starts the container.
        changed: called after every change of status.
    """

    def __init__(
        self, launch: Launch, deployment: Deployment, launcher: Launcher, changed: Callable[[], None]
    ) -> None:
        self.id = launch.name
        self.launch = launch
        self.deployment = deployment
        self.log = Logbook(launch.log_path)
        self.ready = False
        self.failed = False
        self.draining = False
        self.in_flight = 0
        self.idle_since = time.monotonic()
        self.ended = asyncio.Event()
        self._started = (time.monotonic(), now())
        self._launcher = launcher
        self._changed = changed
        self._container: Running | None = None
        self._task = asyncio.create_task(self._supervise(), name=f"worker {self.id}")

    @property
    def url(self) -> str:
        """Where it takes requests."""
        return f"http://{self.launch.address}:{self.deployment.port}"

    @property
    def status(self) -> Status:
        """What the platform calls its condition."""
        if self.failed:
            return "UNHEALTHY"
        if not self.ready:
            return "INITIALIZING"
        return "RUNNING" if self.in_flight else "IDLE"

    def document(self, version: int) -> dict[str, Any]:
        """Return it as the API shows it.

        Args:
            version: of the endpoint's newest release.
        """
        return {
            "id": self.id,
            "status": self.status,
            "isStale": self.deployment.version != version,
            "version": self.deployment.version,
            "gpuCount": self.deployment.gpu_count,
            "image": self.deployment.image,
            "uptimeSeconds": int(time.monotonic() - self._started[0]),
            "gpuTypeId": self.deployment.gpu_type,
            "dataCenterId": None,
            "startedAt": self._started[1],
        }

    async def stop(self) -> None:
        """Stop the container with time to finish, and forget its folder."""
        self.draining = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.ended.set()
        self._changed()

    def connection_lost(self) -> None:
        """Take it out of use at once; its supervision finds out why, or that it is well."""
        self.ready = False
        self._changed()

    async def _supervise(self) -> None:
        try:
            failures = 0
            while failures < _STARTS:
                was_ready = await self._live()
                failures = 1 if was_ready else failures + 1
                if failures < _STARTS:
                    await asyncio.sleep(_BACK_OFF_SECONDS[failures - 1])
            self.failed = True
            self.log.system(f"worker is unhealthy: given up after {_STARTS} starts")
            self._changed()
        finally:
            await self._end()

    async def _live(self) -> bool:
        """Run the container once, from its start until it has ended or must end; say if it was ever ready."""
        self.log.system(f"starting container with image {self.deployment.image}")
        try:
            # Not to be cancelled half way: a container that is started must be known to be stopped.
            start = asyncio.ensure_future(asyncio.to_thread(self._launcher.start, self.launch))
            try:
                self._container = await asyncio.shield(start)
            except asyncio.CancelledError:
                with contextlib.suppress(LaunchError):
                    self._container = await start
                raise
        except LaunchError as error:
            self.log.system(f"container cannot be started: {error}")
            return False
        was_ready, reason = await self._watch(self._container)
        self.log.system(reason)
        self.ready = False
        self._changed()
        await self._end()
        return was_ready

    async def _watch(self, container: Running) -> tuple[bool, str]:
        """Follow its health until it has to be stopped; return whether it was ever ready, and why it ends."""
        started = asked = time.monotonic()
        refusals = 0
        was_ready = False
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                status = container.poll()
                if status is not None:
                    return was_ready, f"container exited with status {status}"
                if time.monotonic() - asked < _HEALTH_INTERVAL_SECONDS[self.ready]:
                    continue
                asked = time.monotonic()
                health = await self._health(http)
                if health == 200:
                    refusals = 0
                    if not self.ready:
                        self.ready, self.idle_since, was_ready = True, asked, True
                        self.log.system(f"worker is ready after {asked - started:.1f} s")
                        self._changed()
                elif was_ready:
                    refusals += 1
                    if refusals >= _UNHEALTHY_AFTER:
                        last = health or "no connection"
                        return was_ready, f"health check failed {refusals} times (last: {last})"
                elif asked - started > self.deployment.init_seconds:
                    return False, f"worker was not ready within {self.deployment.init_seconds:.0f} s"

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
        self.log.collect()
