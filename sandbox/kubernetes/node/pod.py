"""Runs one pod from its binding to its removal."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING

from sandbox.kubernetes.node import status, unsupported
from sandbox.kubernetes.node.addresses import NoAddressError, Reservation, reserve
from sandbox.kubernetes.node.api import ApiError, Object
from sandbox.kubernetes.node.container import Runner
from sandbox.kubernetes.node.context import NodeContext, PodContext
from sandbox.kubernetes.node.devices import NoDeviceError
from sandbox.kubernetes.node.pod_identity import PodIdentityError
from sandbox.kubernetes.node.volumes import VolumeError, Volumes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 2.0
# A forced deletion gives no time, but the kubelet never takes less than this to stop.
_SHORTEST_GRACE_SECONDS = 1.0


class PodWorker:
    """One pod, in a thread of its own.

    Args:
        node: where it runs.
        pod: the pod as the API has it.
        gone: called when nothing is left of it.
    """

    def __init__(self, node: NodeContext, pod: Object, gone: Callable[[PodWorker], None]) -> None:
        self._node = node
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self._gone = gone
        self._directory: Path = node.directory / self.uid
        self._context: PodContext | None = None
        self._runners: dict[str, Runner] = {}
        self._problem: tuple[str, str] | None = None
        self._failed: tuple[str, str] | None = None
        self._wake = threading.Event()
        self._exists = True
        self._shutdown_deadline: float | None = None
        self._deletion: tuple[float, float] | None = None
        self._written: Object | None = None
        self._address: Reservation | None = None
        self._spec: Object = pod["spec"]
        self._volumes: Volumes | None = None
        self._thread = threading.Thread(target=self._run_logged, name=f"pod {self.uid}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def update(self, pod: Object, *, exists: bool) -> None:
        """Take note that the pod changed or is gone from the API."""
        self.pod = pod
        self._exists = exists
        if self._context is not None:
            self._context.pod = pod
        self._wake.set()

    def shut_down(self, deadline: float) -> None:
        """Ask to stop its processes because the node stops; the pod itself stays in the API."""
        self._shutdown_deadline = deadline
        self._wake.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    @property
    def inside(self) -> str | None:
        """The address that its processes listen on, once it has one."""
        return None if self._address is None else self._address.inside

    def runner(self, container: str) -> Runner | None:
        """Return one of its containers."""
        return self._runners.get(container)

    def _run_logged(self) -> None:
        try:
            self._run()
        except Exception:  # noqa: BLE001  # a fault of the node ends this pod's thread only, and says so
            _LOG.exception("pod %s", self.uid)
        finally:
            self._node.devices.release(self.uid)
            self._node.gates.remove(self.uid)
            if self._address is not None:
                self._address.release()
            self._gone(self)

    def _run(self) -> None:
        if self._finished_before():
            self._wait_for_deletion()
        elif self._prepare():
            self._run_containers()
            self._wait_for_deletion()
        self._stop_containers()
        self._remove()

    def _finished_before(self) -> bool:
        return (self.pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}

    def _stop_wanted(self) -> bool:
        return (
            not self._exists
            or self._shutdown_deadline is not None
            or self.pod["metadata"].get("deletionTimestamp") is not None
        )

    def _wait(self, seconds: float | None = None) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _wait_for_deletion(self) -> None:
        while not self._stop_wanted():
            self._write_status()
            self._wait(1.0)

    def _prepare(self) -> bool:
        """Get the pod what it needs, as often as it takes; say whether it was not to be stopped first."""
        while not self._stop_wanted():
            try:
                fields = unsupported.find(self.pod["spec"])
                if fields:
                    self._block(
                        "CreateContainerConfigError",
                        f"the sandbox's node does not support {', '.join(fields)}",
                        "FailedCreatePodSandBox",
                    )
                    self._wait_for_deletion()
                    return False
                recorded = (self.pod.get("status") or {}).get("podIP")
                self._address = self._address or reserve(self._node.pod_network, recorded)
                context = self._context or PodContext(self._node, self.pod, self._directory, self._address)
                context.gpus = context.gpus or self._node.devices.take(self.pod)
                self._context = context
                changed = self._node.identity.inject(self.pod)
                self._spec = changed["spec"]
                self._volumes = Volumes(
                    self._node.api,
                    changed,
                    self._directory / "volumes",
                    self._node.host,
                    context.fields(),
                    self._node.allocatable,
                )
                context.volumes = self._volumes.prepare()
                self._node.gates.add(self.uid, self._address)
            except (VolumeError, PodIdentityError) as error:
                self._block("ContainerCreating", str(error), "FailedMount")
            except NoAddressError as error:
                self._block("ContainerCreating", str(error), "FailedCreatePodSandBox")
            except NoDeviceError as error:
                self._block("ContainerCreating", str(error), "UnexpectedAdmissionError")
            except OSError as error:
                self._block("ContainerCreating", f"{error.strerror}: {error.filename}", "FailedMount")
            else:
                self._problem = None
                return True
            self._wait(_RETRY_SECONDS)
        return False

    def _block(self, reason: str, message: str, event: str) -> None:
        if self._problem != (reason, message):
            self._problem = (reason, message)
            self._write_status()
        self._node.events.emit(self.pod, event, message, warning=True)

    def _run_containers(self) -> None:
        context = self._context
        if context is None:
            raise RuntimeError("the pod was not prepared")
        before = {
            entry["name"]: entry
            for key in ("initContainerStatuses", "containerStatuses")
            for entry in (self.pod.get("status") or {}).get(key) or ()
        }
        spec = self._spec
        for init in (True, False):
            for container in spec.get("initContainers" if init else "containers") or ():
                self._runners[container["name"]] = Runner(
                    context,
                    container,
                    init=init,
                    previous=before.get(container["name"]),
                    changed=self._wake.set,
                )
        for container in spec.get("initContainers") or ():
            runner = self._runners[container["name"]]
            runner.start()
            self._tend(lambda runner=runner: runner.ended)  # type: ignore[misc]
            if not runner.succeeded:
                return
        for container in spec["containers"]:
            self._runners[container["name"]].start()
        self._tend(lambda: all(self._runners[entry["name"]].ended for entry in spec["containers"]))

    def _tend(self, done: Callable[[], bool]) -> None:
        """Keep the status written until the containers are done or the pod is to be stopped."""
        began = time.monotonic()
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        while not done() and not self._stop_wanted():
            self._write_status()
            if self._volumes is not None:
                self._volumes.renew()
            if limit is not None and time.monotonic() - began > limit:
                self._failed = (
                    "DeadlineExceeded",
                    "Pod was active on the node longer than the specified deadline",
                )
                self._stop_runners(time.monotonic() + self._grace_seconds())
            self._wait(1.0)
        self._write_status()

    def _grace_seconds(self) -> float:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        grace = metadata.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = spec.get("terminationGracePeriodSeconds", 30)
        return max(float(grace), _SHORTEST_GRACE_SECONDS)

    def _stop_deadline(self) -> float:
        if self._shutdown_deadline is not None:
            return self._shutdown_deadline
        grace = self._grace_seconds()
        if self._deletion is None:
            self._deletion = (grace, time.monotonic())
        # A second deletion with a shorter grace counts from the first one's time.
        return self._deletion[1] + grace

    def _stop_runners(self, deadline: float) -> None:
        for runner in self._runners.values():
            runner.stop(deadline, hooks=self._shutdown_deadline is None)

    def _stop_containers(self) -> None:
        started = [runner for runner in self._runners.values() if runner.started]
        while True:
            self._stop_runners(self._stop_deadline())
            if all(runner.ended for runner in started):
                return
            self._write_status()
            self._wait(0.2)

    def _remove(self) -> None:
        if self._shutdown_deadline is not None and not self.pod["metadata"].get("deletionTimestamp"):
            return
        while self._exists:
            try:
                self._write_status(final=True)
                self._delete()
                break
            except ApiError as error:
                _LOG.warning("pod %s cannot be removed: %s", self.uid, error)
                self._wait(_RETRY_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _delete(self) -> None:
        metadata = self.pod["metadata"]
        self._node.api.delete(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}",
            {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}},
        )

    def _write_status(self, *, final: bool = False) -> None:
        """Send the pod's status to the API if it is another one than before."""
        if not self._exists or (self._shutdown_deadline is not None and not final):
            return
        new = status.build(
            self.pod, self._runners, self._node, self._address, problem=self._problem, failed=self._failed
        )
        if new == self._written:
            return
        metadata = self.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        try:
            self._node.api.patch(path, {"metadata": {"uid": self.uid}, "status": new})
        except ApiError as error:
            if error.status in {404, 409}:
                return
            if final:
                raise
            _LOG.warning("status of pod %s: %s", self.uid, error)
            # It is tried again with the next change, or in a second.
        else:
            self._written = new
