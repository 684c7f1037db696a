"""Runs a container's startup, liveness and readiness probes at their times."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from sandbox.kubernetes.node.actions import ActionError, Target, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["startup", "liveness", "readiness"]
KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")


class Prober:
    """The probes of one running container.

    `started` and `ready` are what the container's status says: without a startup probe it has started,
    without a readiness probe it is ready once it has started.

    Args:
        target: the container.
        changed: called when `started` or `ready` changed.
        failed: called once, with the kind, the probe and the message, when the container must be restarted.
        unhealthy: called with the kind and the message of each failure.
    """

    def __init__(
        self,
        target: Target,
        *,
        changed: Callable[[], None],
        failed: Callable[[Kind, Mapping[str, Any], str], None],
        unhealthy: Callable[[Kind, str], None],
    ) -> None:
        self._target = target
        self._changed = changed
        self._failed = failed
        self._unhealthy = unhealthy
        self._probes: dict[Kind, Mapping[str, Any]] = {
            kind: target.spec[f"{kind}Probe"] for kind in KINDS if target.spec.get(f"{kind}Probe")
        }
        self._begun = time.monotonic()
        self._started = threading.Event()
        self._ended = threading.Event()
        self._leaving = threading.Event()
        self._ready = False
        if "startup" not in self._probes:
            self._started.set()

    def start(self) -> None:
        """Begin to probe, each kind in a thread of its own."""
        for kind, probe in self._probes.items():
            threading.Thread(target=self._run, args=(kind, probe), name=f"{kind} probe", daemon=True).start()

    def leave(self) -> None:
        """The container is being stopped: only its readiness still counts."""
        self._leaving.set()

    def end(self) -> None:
        """The container has ended."""
        self._ended.set()
        self._started.set()

    @property
    def started(self) -> bool:
        """Whether the startup probe has succeeded, or there is none."""
        return self._started.is_set() and not self._ended.is_set()

    @property
    def ready(self) -> bool:
        """Whether the container takes requests."""
        return self.started and (self._ready or "readiness" not in self._probes)

    def _stopped(self) -> bool:
        return self._ended.is_set()

    def _run(self, kind: Kind, probe: Mapping[str, Any]) -> None:
        if kind != "startup":
            self._started.wait()
        self._ended.wait(max(0.0, probe.get("initialDelaySeconds", 0) - (time.monotonic() - self._begun)))
        successes = failures = 0
        while not self._ended.is_set() and not (self._leaving.is_set() and kind != "readiness"):
            try:
                perform(probe, self._target, probe.get("timeoutSeconds", 1), self._stopped)
            except ActionError as error:
                if self._ended.is_set():
                    return
                successes, failures = 0, failures + 1
                self._unhealthy(kind, str(error))
                if failures >= probe.get("failureThreshold", 3) and self._give_up(kind, probe, str(error)):
                    return
            else:
                successes, failures = successes + 1, 0
                if successes >= probe.get("successThreshold", 1) and self._succeed(kind):
                    return
            self._ended.wait(probe.get("periodSeconds", 10))

    def _give_up(self, kind: Kind, probe: Mapping[str, Any], message: str) -> bool:
        """Take note of enough failures; say whether probing is over."""
        if kind == "readiness":
            if self._ready:
                self._ready = False
                self._changed()
            return False
        if not self._leaving.is_set():
            self._failed(kind, probe, message)
        return True

    def _succeed(self, kind: Kind) -> bool:
        """Take note of enough successes; say whether probing is over."""
        if kind == "startup":
            self._started.set()
            self._changed()
            return True
        if kind == "readiness" and not self._ready:
            self._ready = True
            self._changed()
        return False
