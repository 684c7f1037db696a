"""Finds out what goes on behind an endpoint that does not answer: its workers or pods and their logs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.runpod import Runpod
from ops.smoke import Look
from ops.worker_logs import WorkerLogs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.endpoints import Endpoint

_LIMIT_SECONDS = 10.0
_LOG_LINES = 200
# A worker that is unhealthy so often in a row has crashed after a restart, or does not come up at all.
_UNHEALTHY_LOOKS = 3
_ERROR = re.compile(r"\b\w*(?:Error|Exception|error): ")
# What vLLM's front says when its engine process has ended; the engine's own error stands above it.
_CONSEQUENCE = "Engine core initialization failed"
_SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")


def reason_in_log(lines: list[str]) -> str:
    """Return why a server ended, from its log: its last error with what follows, else its last lines."""
    for index in range(len(lines) - 1, -1, -1):
        if _ERROR.search(lines[index]) and _CONSEQUENCE not in lines[index]:
            return "\n".join(lines[index : index + 4])
    return "\n".join(lines[-5:])


class Looker:
    """Looks behind the endpoints of one stack.

    Args:
        runpod_api: the base URL of RunPod's REST API, up to and with `/v2`.
        environment: the variables under which the kubeconfig's own command works.
        kubeconfig: the cluster's kubeconfig, for a stack with one.
    """

    def __init__(self, runpod_api: str, environment: Mapping[str, str], kubeconfig: str | None) -> None:
        self._runpod_api = runpod_api
        self._environment = environment
        self._kubeconfig = kubeconfig
        self._unhealthy: dict[str, int] = {}

    def __call__(self, endpoint: Endpoint) -> Look:
        """Say what goes on behind an endpoint; a platform that does not answer is said, not raised."""
        return self._runpod(endpoint) if endpoint.platform == "runpod" else self._kubernetes()

    def _runpod(self, endpoint: Endpoint) -> Look:
        runpod = Runpod(self._runpod_api, endpoint)
        try:
            listed = runpod.workers()
            unhealthy = [worker["id"] for worker in listed["workers"] if worker["status"] == "UNHEALTHY"]
            counts = ", ".join(
                f"{count} {status}"
                for status, count in listed["summary"].items()
                if count and status != "total"
            )
            state = f"workers: {counts or 'none yet'}"
            seen = self._unhealthy.get(endpoint.url, 0) + 1 if unhealthy else 0
            self._unhealthy[endpoint.url] = seen
            if seen < _UNHEALTHY_LOOKS:
                return Look(state)
            log = WorkerLogs(runpod, source="container", tail=_LOG_LINES).log(unhealthy[0])
            lines = [line.text for line in log.lines(follow=False)]
        except OpsError as error:
            return Look(f"RunPod does not tell about its workers ({error})")
        why = f"its log says:\n{reason_in_log(lines)}" if lines else "it has no log"
        return Look(state, f"the worker {unhealthy[0]} does not come up; {why}")

    def _kubernetes(self) -> Look:
        if self._kubeconfig is None:
            return Look("")
        # Half a second of imports that only a failing endpoint needs.
        from ops.cluster import ERRORS, core_api  # noqa: PLC0415

        try:
            api = core_api(self._kubeconfig, self._environment)
            pods = api.list_pod_for_all_namespaces(_request_timeout=_LIMIT_SECONDS).items
            for pod in pods:
                if pod.metadata.namespace not in _SYSTEM_NAMESPACES and not _ready(pod):
                    return self._pod(api, pod)
        except ERRORS as error:
            return Look(f"the cluster does not tell about its pods ({type(error).__name__})")
        return Look("every pod is ready")

    def _pod(self, api: Any, pod: Any) -> Look:
        state = f"pod {pod.metadata.name}: {pod.status.phase}"
        for condition in pod.status.conditions or []:
            if condition.status == "False" and condition.reason == "Unschedulable":
                return Look(f"{state}, {condition.message}")
        for container in pod.status.container_statuses or []:
            waiting = container.state.waiting
            if waiting and waiting.reason != "ContainerCreating":
                state += f", {waiting.reason} {waiting.message or ''}".rstrip()
            if container.restart_count and container.last_state.terminated:
                log = api.read_namespaced_pod_log(
                    pod.metadata.name, pod.metadata.namespace, container=container.name, previous=True,
                    tail_lines=_LOG_LINES, _request_timeout=_LIMIT_SECONDS,
                )  # fmt: skip
                return Look(state, f"{state}; its log says:\n{reason_in_log(log.splitlines())}")
        return Look(state)


def _ready(pod: Any) -> bool:
    return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])
