"""Why a pod is not ready: a line to show while it may still become so, and the reasons why it will not."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from sandbox.plugins.kubernetes.cluster import Cluster

# A container that failed this often in a row is not going to start; sooner, where it said itself why it ends.
_HOPELESS_RESTARTS: Final = 2
_HOPELESS_RESTARTS_WITH_REASON: Final = 1
_LOG_LINES: Final = 20
# Reasons from which a container does not recover unless somebody changes something, though a Secret or an
# image that is still on its way can look the same for a moment.
_STUCK: Final = frozenset(
    {
        "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull",
        "ImageInspectError", "ImagePullBackOff", "InvalidImageName", "RunContainerError",
    }
)  # fmt: skip
STUCK_SECONDS: Final = 5.0


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def is_ready(pod: dict[str, Any]) -> bool:
    """Say whether a pod takes traffic."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def state(pod: dict[str, Any]) -> str:
    """Say in one line how far a pod is."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            words = condition.get("message") or condition.get("reason")
            return f"pod {name}: {status.get('phase', 'Pending')}: {words}"
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            words = ": ".join(filter(None, [waiting.get("reason"), waiting.get("message")]))
            return f"pod {name}, container {container['name']}: {words}"
        if "running" in (container.get("state") or {}) and not container.get("ready", False):
            restarts = container.get("restartCount", 0)
            again = f", restarted {restarts} times" if restarts else ""
            return f"pod {name}, container {container['name']}: runs, not ready yet{again}"
    return f"pod {name}: {status.get('phase', 'Pending')}"


def hopeless(cluster: Cluster, pod: dict[str, Any]) -> list[str]:
    """Return why a pod will not start, its log and events among the reasons; nothing where it may."""
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended = (container.get("lastState") or {}).get("terminated") or {}
        enough = _HOPELESS_RESTARTS_WITH_REASON if ended.get("message") else _HOPELESS_RESTARTS
        crashed = waiting.get("reason") == "CrashLoopBackOff" and container.get("restartCount", 0) >= enough
        stuck = waiting.get("reason") in _STUCK and _age_seconds(pod) > STUCK_SECONDS
        if crashed or stuck:
            return _reasons(cluster, pod, container, waiting, crashed=crashed)
    return []


def _age_seconds(pod: dict[str, Any]) -> float:
    started = (pod.get("status") or {}).get("startTime") or pod["metadata"]["creationTimestamp"]
    now = dt.datetime.now(dt.UTC)
    return (now - dt.datetime.fromisoformat(started)).total_seconds()


def _reasons(
    cluster: Cluster,
    pod: dict[str, Any],
    container: dict[str, Any],
    waiting: dict[str, Any],
    *,
    crashed: bool,
) -> list[str]:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    words = ": ".join(filter(None, [waiting.get("reason"), waiting.get("message")]))
    head = f"pod {name}, container {container['name']}: {words}"
    if not crashed:
        return [head, *warnings(cluster, namespace, name)]
    ended = (container.get("lastState") or {}).get("terminated") or {}
    restarts = container["restartCount"]
    head += f" (ended with exit status {ended.get('exitCode', 'unknown')}, restarted {restarts} times)"
    said = ended.get("message") or cluster.log_tail(
        namespace, name, container["name"], previous=True, lines=_LOG_LINES
    )
    tail = said.strip()
    return [head, *([f"its last words:\n{tail}"] if tail else warnings(cluster, namespace, name))]


def warnings(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Return the messages of an object's warning events, the latest first."""
    try:
        events = cluster.list(
            "v1", "Event", namespace, fieldSelector=f"involvedObject.name={name},type=Warning"
        )
    except PluginError:
        return []  # who may not read events still gets the reasons themselves
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", reverse=True)
    messages = [
        f"{event.get('reason', '')}: {' '.join(event.get('message', '').split())}" for event in events
    ]
    return list(dict.fromkeys(messages))[:5]
