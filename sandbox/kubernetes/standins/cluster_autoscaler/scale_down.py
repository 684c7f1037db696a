"""Decides which nodes are unneeded, and takes away those that have been for long enough."""

from __future__ import annotations

import copy
import logging
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.node.api import ApiError, Object
from sandbox.kubernetes.node.devices import RESOURCE
from sandbox.kubernetes.selectors import matches
from sandbox.kubernetes.standins.cluster_autoscaler.groups import CloudError
from sandbox.kubernetes.standins.cluster_autoscaler.simulator import TO_BE_DELETED, place_all, requests
from sandbox.kubernetes.standins.cluster_autoscaler.view import instance_id, is_leaving, is_ready

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.kubernetes.standins.cluster_autoscaler.cluster import Cluster
    from sandbox.kubernetes.standins.cluster_autoscaler.flags import Flags
    from sandbox.kubernetes.standins.cluster_autoscaler.groups import Cloud
    from sandbox.kubernetes.standins.cluster_autoscaler.simulator import Place
    from sandbox.kubernetes.standins.cluster_autoscaler.view import View

_LOG = logging.getLogger(__name__)
_NEVER = float("-inf")
_EVICTION_RETRY_SECONDS = 2.0
_ANNOTATION = "cluster-autoscaler.kubernetes.io/"
_REPLICATED = {"ReplicaSet", "ReplicationController", "StatefulSet", "Job"}


class ScaleDown:
    """Takes nodes away.

    Args:
        cluster: where nodes are drained.
        cloud: where their instances end.
        flags: the arguments.
    """

    def __init__(self, cluster: Cluster, cloud: Cloud, flags: Flags) -> None:
        self._cluster = cluster
        self._cloud = cloud
        self._flags = flags
        self._unneeded_since: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._last_deletion = _NEVER
        self._last_failure = _NEVER

    def run(self, view: View, last_scale_up: float) -> None:
        """Look which nodes are unneeded, and begin to take away those that have been for long enough.

        Args:
            view: what was seen.
            last_scale_up: when a group was made larger (time.monotonic()).
        """
        now = time.monotonic()
        places = view.places()
        unneeded: list[Object] = []
        for node in view.nodes:
            name = node["metadata"]["name"]
            if self._is_needed(view, node, places):
                self._unneeded_since.pop(name, None)
                continue
            unneeded.append(node)
            if self._unneeded_since.setdefault(name, now) == now:
                _LOG.info("Node %s is unneeded", name)
        cooling = (
            now - last_scale_up < self._flags.seconds("scale-down-delay-after-add")
            or now - self._last_deletion < self._flags.seconds("scale-down-delay-after-delete")
            or now - self._last_failure < self._flags.seconds("scale-down-delay-after-failure")
        )
        if cooling:
            return
        spare = {name: group.desired - group.minimum for name, group in view.groups.items()}
        for node in unneeded:
            group = view.group_of(node)
            wanted = "scale-down-unneeded-time" if is_ready(node) else "scale-down-unready-time"
            since = self._unneeded_since[node["metadata"]["name"]]
            if group is None or spare[group.name] <= 0 or now - since < self._flags.seconds(wanted):
                continue
            spare[group.name] -= 1
            self._leaving.add(node["metadata"]["name"])
            pods = _movable(view.by_node.get(node["metadata"]["name"], ()))
            threading.Thread(target=self._take_away, args=(node, pods), daemon=True).start()

    def _is_needed(self, view: View, node: Object, places: dict[str, Place]) -> bool:
        """Say whether a node must stay; if it need not, its pods are counted where they would go."""
        name = node["metadata"]["name"]
        pods = view.by_node.get(name, [])
        if not self._may_go(view, node) or (is_ready(node) and self._is_used(view, node, pods)):
            return True
        movable = _movable(pods)
        blocked = next(filter(None, (self._why_blocked(pod, view.budgets) for pod in movable)), None)
        if blocked is not None:
            _LOG.info("Node %s cannot be removed: %s", name, blocked)
            return True
        others = {other: copy.deepcopy(place) for other, place in places.items() if other != name}
        if place_all(movable, list(others.values())):
            return True
        places.clear()
        places.update(others)
        return False

    def _may_go(self, view: View, node: Object) -> bool:
        annotations = node["metadata"].get("annotations") or {}
        group = view.group_of(node)
        return (
            group is not None
            and group.desired > group.minimum
            and node["metadata"]["name"] not in self._leaving
            and not is_leaving(node)
            and annotations.get(f"{_ANNOTATION}scale-down-disabled") != "true"
        )

    def _is_used(self, view: View, node: Object, pods: Sequence[Object]) -> bool:
        place = view.place(node)
        room, used = place.shape.resources, place.used
        if self._flags.on("ignore-daemonsets-utilization"):
            used = copy.copy(used)
            for pod in pods:
                if _owner(pod).get("kind") == "DaemonSet":
                    used.subtract(requests(pod))
        if room.get(RESOURCE):
            threshold = self._flags.number("scale-down-gpu-utilization-threshold")
            return used[RESOURCE] / room[RESOURCE] >= threshold
        threshold = self._flags.number("scale-down-utilization-threshold")
        return max(used[name] / room[name] for name in ("cpu", "memory")) >= threshold

    def _why_blocked(self, pod: Object, budgets: Sequence[Object]) -> str | None:
        """Return why a pod may not be evicted, by the original's rules; None if it may."""
        metadata, spec = pod["metadata"], pod["spec"]
        annotations = metadata.get("annotations") or {}
        own = [each for each in budgets if _covers(each, pod)]
        safe = annotations.get(f"{_ANNOTATION}safe-to-evict")
        if safe == "false":
            return f"pod {metadata['name']} is not safe to evict"
        if safe != "true":
            kind = _owner(pod).get("kind")
            if kind is None or (
                kind not in _REPLICATED and self._flags.on("skip-nodes-with-custom-controller-pods")
            ):
                return f"pod {metadata['name']} is not replicated"
            age = datetime.now(UTC) - datetime.fromisoformat(metadata["creationTimestamp"])
            if (
                metadata["namespace"] == "kube-system"
                and not own
                and self._flags.on("skip-nodes-with-system-pods")
                and age.total_seconds() < self._flags.seconds("blocking-system-pod-distruption-timeout")
            ):
                return f"system pod {metadata['name']} without a disruption budget"
            if self._flags.on("skip-nodes-with-local-storage") and _keeps_files(spec, annotations):
                return f"pod {metadata['name']} has local storage"
        if any(each["status"].get("disruptionsAllowed", 0) < 1 for each in own):
            return f"not enough pod disruption budget to move {metadata['name']}"
        return None

    def _take_away(self, node: Object, pods: Sequence[Object]) -> None:
        name = node["metadata"]["name"]
        cordon = self._flags.on("cordon-node-before-terminating")
        try:
            _LOG.info("Scale-down: removing node %s, pods to move: %d", name, len(pods))
            self._cluster.taint(name, TO_BE_DELETED, cordon=cordon)
            self._cluster.event(node, "Node", "ScaleDown", "marked the node as toBeDeleted/unschedulable")
            self._drain(pods)
            time.sleep(self._flags.seconds("node-delete-delay-after-taint"))
            self._cloud.terminate(instance_id(node))
            self._last_deletion = time.monotonic()
        except (ApiError, CloudError, TimeoutError) as error:
            _LOG.error("Scale-down of node %s failed: %s", name, error)
            self._last_failure = time.monotonic()
            self._give_back(name, uncordon=cordon)
        finally:
            self._leaving.discard(name)
            self._unneeded_since.pop(name, None)

    def _give_back(self, name: str, *, uncordon: bool) -> None:
        try:
            self._cluster.untaint(name, TO_BE_DELETED, uncordon=uncordon)
        except ApiError as error:
            _LOG.error("Node %s keeps its taint: %s", name, error)

    def _drain(self, pods: Sequence[Object]) -> None:
        grace = int(self._flags.number("max-graceful-termination-sec"))
        deadline = time.monotonic() + self._flags.seconds("max-pod-eviction-time")
        left = list(pods)
        while left:
            left = [pod for pod in left if not self._cluster.evict(pod, grace)]
            if left and time.monotonic() > deadline:
                names = ", ".join(pod["metadata"]["name"] for pod in left)
                raise TimeoutError(f"pods that cannot be evicted: {names}")
            if left:
                time.sleep(_EVICTION_RETRY_SECONDS)
        deadline = time.monotonic() + grace
        wanted = {pod["metadata"]["uid"] for pod in pods}
        while wanted & {pod["metadata"]["uid"] for pod in self._cluster.objects("/api/v1/pods")}:
            if time.monotonic() > deadline:
                raise TimeoutError("pods that do not end")
            time.sleep(_EVICTION_RETRY_SECONDS)


def _movable(pods: Sequence[Object]) -> list[Object]:
    """Return the pods of a node that would have to go elsewhere."""
    return [pod for pod in pods if _owner(pod).get("kind") not in {"DaemonSet", "Node"}]


def _owner(pod: Object) -> Mapping[str, Any]:
    owners = pod["metadata"].get("ownerReferences") or ()
    found: Mapping[str, Any] = next((each for each in owners if each.get("controller")), {})
    return found


def _covers(budget: Object, pod: Object) -> bool:
    return budget["metadata"]["namespace"] == pod["metadata"]["namespace"] and matches(
        budget["spec"].get("selector") or {}, pod["metadata"].get("labels") or {}
    )


def _keeps_files(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> bool:
    safe = annotations.get(f"{_ANNOTATION}safe-to-evict-local-volumes", "").split(",")
    return any(
        volume["name"] not in safe
        and ("hostPath" in volume or ("emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"))
        for volume in spec.get("volumes") or ()
    )
