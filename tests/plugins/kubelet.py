"""Stands in for the nodes of a control plane without any, and makes objects to try on it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.plugins.driver import InitializationFailed, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.plugins.kubernetes.cluster import Cluster
    from tests.plugins.driver import Plugin, Resource


def deployment(name: str, replicas: int = 1, image: str = "vllm", **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    containers = [{"name": "vllm", "image": image, **container}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 8000}], **spec},
    }


class Kubelet:
    """Says of the pods of an app what a node would."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pod_kind = cluster.kind("v1", "Pod")

    def pods(self, app: str) -> list[dict[str, Any]]:
        return self.cluster.list("v1", "Pod", "default", labelSelector=f"app={app}")

    def say(self, app: str, status: dict[str, Any]) -> None:
        """Give all pods of an app a status, once there are any."""
        wait_for(lambda: self.pods(app))
        for pod in self.pods(app):
            self._bind(pod)
            path = f"{self.pod_kind.path('default', pod['metadata']['name'])}/status"
            self.cluster.request(
                "PATCH", path, body={"status": status}, content_type="application/strategic-merge-patch+json"
            )

    def _bind(self, pod: dict[str, Any]) -> None:
        if pod["spec"].get("nodeName"):
            return
        name = {"name": pod["metadata"]["name"]}
        # A node for each pod: the control plane distrusts one that it has not heard of for long.
        self.cluster.request("POST", "/api/v1/nodes", body={"metadata": name})
        target = {"apiVersion": "v1", "kind": "Node", **name}
        self.cluster.request(
            "POST",
            f"{self.pod_kind.path('default', name['name'])}/binding",
            body={"apiVersion": "v1", "kind": "Binding", "metadata": name, "target": target},
        )

    def end(self, app: str) -> None:
        """Confirm that the pods of an app that are being deleted have ended."""
        wait_for(lambda: all("deletionTimestamp" in pod["metadata"] for pod in self.pods(app)))
        for pod in self.pods(app):
            path = self.pod_kind.path("default", pod["metadata"]["name"])
            self.cluster.request("DELETE", path, body={"gracePeriodSeconds": 0})

    def ready(self, app: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": now}]
        self.say(app, {"phase": "Running", "podIP": "10.1.2.3", "conditions": conditions})

    def waits(self, app: str, reason: str, message: str = "", **more: Any) -> None:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
        state = {"waiting": {"reason": reason, "message": message}}
        container = {
            "name": "vllm", "image": "vllm", "imageID": "", "ready": False, "restartCount": 0, "state": state,
        }  # fmt: skip
        status = {"phase": "Pending", "startTime": started, "containerStatuses": [{**container, **more}]}
        self.say(app, status)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
    return value


def in_background(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(function())
        except (InitializationFailed, Refused) as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def made(plugin: Plugin, type_: str, name: str, inputs: dict[str, Any]) -> Resource:
    """Make an object and hold it to what holds for all kinds."""
    resource = plugin.create(type_, name, inputs)
    assert not plugin.diff(resource, inputs).changes, "a second update would change it"
    read = plugin.read(resource)
    assert read is not None
    assert not plugin.diff_checked(resource, read.inputs).changes, "a refresh sees drift"
    return resource
