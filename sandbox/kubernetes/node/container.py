"""Keeps one container of a pod as its spec says: pulls, starts, probes, restarts and stops it."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from sandbox.containers import Container, ContainerError, Image, ImageError
from sandbox.kubernetes.node import termination
from sandbox.kubernetes.node.actions import ActionError, Target, perform
from sandbox.kubernetes.node.api import ApiError, Object
from sandbox.kubernetes.node.backoff import Backoff
from sandbox.kubernetes.node.environment import ConfigError, expand
from sandbox.kubernetes.node.events import timestamp
from sandbox.kubernetes.node.mounts import Mounts
from sandbox.kubernetes.node.probes import Kind, Prober

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sandbox.kubernetes.node.context import PodContext

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_CONFIG_RETRY_SECONDS = 2.0
_HOOK_MINIMUM_SECONDS = 2.0


class Runner:
    """One container of a pod, over all its restarts.

    Args:
        context: the pod.
        spec: the container's spec.
        init: whether it is an init container, which ends before the next one starts.
        previous: its status in the API from before the node was restarted, if there is one.
        changed: called whenever `status()` changed.
    """

    def __init__(
        self,
        context: PodContext,
        spec: Object,
        *,
        init: bool,
        previous: Object | None,
        changed: Callable[[], None],
    ) -> None:
        self._context = context
        self._spec = spec
        self.name: str = spec["name"]
        self._init = init
        self._changed = changed
        self._directory = context.directory / "containers" / self.name
        self._restarts = 0
        self._last_state: Object = {}
        self._state: Object = {"waiting": {"reason": "PodInitializing"}}
        self._image: Image | None = None
        self._container: Container | None = None
        self._prober: Prober | None = None
        self._mounts: Mounts | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._deadline = 0.0
        self._hooks = True
        self._failure: tuple[str, float] | None = None
        self._backoff = Backoff(at_once=True)
        self._pulls = Backoff(at_once=False)
        self._succeeded = False
        self._thread = threading.Thread(target=self._run_logged, name=f"container {self.name}", daemon=True)
        self._field = f"spec.{'initContainers' if init else 'containers'}{{{self.name}}}"
        if previous is not None:
            self._take_over(previous)

    def start(self) -> None:
        """Begin, unless it had ended for good before the node was started again."""
        if not self._ended.is_set():
            self._thread.start()

    def stop(self, deadline: float, *, hooks: bool) -> None:
        """Ask it to stop; return at once. Asked again, an earlier deadline counts.

        Args:
            deadline: when it is killed (time.monotonic()).
            hooks: whether its preStop hook is run first.
        """
        if not self._stopping.is_set():
            self._deadline, self._hooks = deadline, hooks
        self._deadline = min(self._deadline, deadline)
        self._stopping.set()
        self._wake.set()

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._ended.is_set() or self._thread.ident is not None

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return "running" in self._state

    @property
    def ended(self) -> bool:
        """Whether it does not run and will not be started again."""
        return self._ended.is_set()

    @property
    def succeeded(self) -> bool:
        """Whether it has ended for good with status 0."""
        return self.ended and self._succeeded

    def log_path(self, *, previous: bool) -> Path | None:
        """Return the log of the last run of the container or of the one before; None if there was none."""
        # While it waits for its next start, the run that ended is the last one and the previous one too.
        path = self._log(self._restarts - (1 if previous and "waiting" not in self._state else 0))
        return path if path.exists() else None

    def status(self) -> Object:
        """Return its `containerStatus`."""
        prober = self._prober
        running = "running" in self._state
        ready = running and prober is not None and prober.ready
        if self._init:
            ready = self._succeeded and "terminated" in self._state
        return {
            "name": self.name,
            "image": self._spec["image"],
            "imageID": self._image_id(),
            "containerID": f"berth://{self._container_id()}" if self._container is not None else "",
            "restartCount": self._restarts,
            "state": self._state,
            "lastState": self._last_state,
            "ready": ready,
            "started": running and prober is not None and prober.started,
        }

    def _take_over(self, previous: Object) -> None:
        """Go on counting where the node was stopped; what ran then was ended with it."""
        self._restarts = previous.get("restartCount", 0)
        state = previous.get("state") or {}
        if state.get("running"):
            state = termination.with_its_node(state["running"].get("startedAt"))
        if state.get("terminated"):
            self._succeeded = state["terminated"]["exitCode"] == 0
            if not self._init and not self._again():
                self._state = {"terminated": state["terminated"]}
                self._ended.set()
                return
            self._succeeded = False
            self._last_state = {"terminated": state["terminated"]}
        else:
            self._last_state = previous.get("lastState") or {}
        self._restarts += 1 if self._last_state else 0

    def _run_logged(self) -> None:
        try:
            self._run()
        except Exception:  # noqa: BLE001  # a fault of the node ends this container only, and says so
            _LOG.exception("container %s of pod %s", self.name, self._context.key)
            self._set({"waiting": {"reason": "NodeError", "message": "the node failed; its log says why"}})
        finally:
            self._ended.set()
            self._changed()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                image = self._pull()
                if image is None:
                    return
                self._start(image)
            except (ConfigError, ApiError) as error:
                self._waiting("CreateContainerConfigError", str(error))
                self._event("Failed", f"Error: {error}", warning=True)
                self._pause(_CONFIG_RETRY_SECONDS)
                continue
            except ContainerError as error:
                self._event("Failed", f"Error: {error}", warning=True)
                self._terminated(128, "StartError", str(error), timestamp())
            else:
                self._watch()
            if self._stopping.is_set() or not self._again():
                return
            delay = self._backoff.failed()
            if delay:
                self._last_state = self._state
                pod = self._context.pod_words
                self._waiting(
                    "CrashLoopBackOff",
                    f"back-off {termination.duration(delay)} restarting failed container={self.name} "
                    f"pod={pod}",
                )
                self._event(
                    "BackOff",
                    f"Back-off restarting failed container {self.name} in pod {pod}",
                    warning=True,
                )
                self._pause(delay)
            if self._stopping.is_set():
                return
            if "terminated" in self._state:
                self._last_state = self._state
            self._restarts += 1

    def _again(self) -> bool:
        policy = self._context.pod["spec"].get("restartPolicy", "Always")
        if self._init and self._succeeded:
            return False
        if policy == "Never":
            return False
        return not (self._succeeded and policy == "OnFailure")

    def _pull(self) -> Image | None:
        """Return the image; None if the container is to be stopped first."""
        reference = self._spec["image"]
        while not self._stopping.is_set():
            if self._image is None:
                self._event("Pulling", f'Pulling image "{reference}"')
            began = time.monotonic()
            try:
                image = self._context.node.images.pull(reference)
            except ImageError as error:
                delay = self._pulls.failed()
                self._event("Failed", f'Failed to pull image "{reference}": {error}', warning=True)
                self._event("Failed", "Error: ErrImagePull", warning=True)
                self._waiting("ErrImagePull", str(error))
                self._pause(_CONFIG_RETRY_SECONDS)
                self._waiting(
                    "ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {error}'
                )
                self._event("BackOff", f'Back-off pulling image "{reference}"')
                self._pause(delay - _CONFIG_RETRY_SECONDS)
                continue
            if self._image is None:
                took = time.monotonic() - began
                self._event("Pulled", f"{self._context.node.images.origin(reference)} in {took:.3f}s")
            else:
                self._event("Pulled", f'Container image "{reference}" already present on machine')
            self._image = image
            return image
        return None

    def _start(self, image: Image) -> None:
        termination.check_user(self._context.pod, self._spec, image)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        mounts = Mounts.link(
            self._spec, self._context.volumes, self._directory / "mounts", self._directory / "termination-log"
        )
        variables = self._context.environment(self._spec)
        command, args = (
            mounts.arguments([expand(text, variables) for text in self._spec[key]])
            if self._spec.get(key)
            else None
            for key in ("command", "args")
        )
        log = self._log(self._restarts)
        log.parent.mkdir(parents=True, exist_ok=True)
        # As on a real node, the log of the run before is kept, and none older.
        self._log(self._restarts - 2).unlink(missing_ok=True)
        container = Container.start(
            image,
            name=f"{self._context.key}/{self.name}",
            directory=self._directory,
            address=self._context.address.inside,
            log_path=log,
            command=command,
            args=args,
            env={
                **mounts.environment(variables),
                "BERTH_MOUNTS": str(self._directory / "mounts"),
                **self._context.node.egress.environment(
                    self._context.uid, self._context.address.local, {**image.env, **variables}
                ),
            },
            workdir=self._spec.get("workingDir"),
        )
        self._container, self._mounts, self._failure = container, mounts, None
        self._event("Created", f"Container created: {self.name}")
        self._event("Started", f"Container started: {self.name}")
        self._prober = Prober(
            self._target(), changed=self._changed, failed=self._probe_failed, unhealthy=self._unhealthy
        )
        self._post_start()
        self._set({"running": {"startedAt": timestamp()}})
        self._prober.start()

    def _post_start(self) -> None:
        hook = (self._spec.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        try:
            perform(hook, self._target(), float("inf"), self._hook_over)
        except ActionError as error:
            self._event("FailedPostStartHook", f"PostStartHook failed: {error}", warning=True)
            self._failure = ("FailedPostStartHook", self._context.grace_seconds)

    def _hook_over(self) -> bool:
        return self._stopping.is_set() or self._container is None or self._container.poll() is not None

    def _watch(self) -> None:
        """Wait until the container has ended, and end it when it must be."""
        container, prober = self._container, self._prober
        if container is None or prober is None:
            raise RuntimeError("nothing was started")
        began = self._state["running"]["startedAt"]
        while container.poll() is None:
            if self._stopping.is_set():
                self._event("Killing", f"Stopping container {self.name}")
                self._terminate(container, prober)
            elif self._failure is not None:
                self._hooks = True
                self._deadline = time.monotonic() + self._failure[1]
                self._terminate(container, prober)
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()
        prober.end()
        status = container.poll() or 0
        message = termination.message(
            self._spec, status, self._directory / "termination-log", self._log(self._restarts)
        )
        self._terminated(status, "Completed" if status == 0 else "Error", message, began)

    def _terminate(self, container: Container, prober: Prober) -> None:
        """Run the preStop hook, send SIGTERM, and kill what is left when the time is up."""
        prober.leave()
        hook = (self._spec.get("lifecycle") or {}).get("preStop")
        if hook and self._hooks:
            try:
                perform(
                    hook,
                    self._target(),
                    max(self._deadline - time.monotonic(), 0.0),
                    lambda: container.poll() is not None or time.monotonic() > self._deadline,
                )
            except ActionError as error:
                self._event("FailedPreStopHook", f"PreStopHook failed: {error}", warning=True)
            # A hook that took all the time still leaves the program a moment, as the kubelet does.
            self._deadline = max(self._deadline, time.monotonic() + _HOOK_MINIMUM_SECONDS)
        container.signal(signal.SIGTERM)
        while container.poll() is None and time.monotonic() < self._deadline:
            time.sleep(0.05)
        if container.poll() is None:
            container.kill()

    def _probe_failed(self, kind: Kind, probe: Mapping[str, Any], _message: str) -> None:
        self._event("Killing", f"Container {self.name} failed {kind} probe, will be restarted")
        grace = probe.get("terminationGracePeriodSeconds") or self._context.grace_seconds
        self._failure = (kind, float(grace))
        self._wake.set()

    def _unhealthy(self, kind: Kind, message: str) -> None:
        self._event("Unhealthy", f"{kind.capitalize()} probe failed: {message}", warning=True)

    def _target(self) -> Target:
        if self._container is None or self._mounts is None:
            raise RuntimeError("nothing was started")
        context = self._context
        return Target(self._spec, self._container, context.address.local, context.node.address, self._mounts)

    def _terminated(self, status: int, reason: str, message: str, began: str) -> None:
        self._succeeded = status == 0
        state = {"exitCode": status, "reason": reason, "startedAt": began, "finishedAt": timestamp()}
        if message:
            state["message"] = message
        state["containerID"] = f"berth://{self._container_id()}"
        self._set({"terminated": state})

    def _waiting(self, reason: str, message: str) -> None:
        self._set({"waiting": {"reason": reason, "message": message}})

    def _set(self, state: Object) -> None:
        if state != self._state:
            self._state = state
            self._changed()

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(max(seconds, 0.0))

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._context.node.events.emit(self._context.pod, reason, message, warning=warning, field=self._field)

    def _log(self, number: int) -> Path:
        return self._context.directory / "logs" / self.name / f"{number}.log"

    def _container_id(self) -> str:
        return f"{self._context.uid}-{self.name}-{self._restarts}"

    def _image_id(self) -> str:
        return self._image.identity if self._image is not None else ""
