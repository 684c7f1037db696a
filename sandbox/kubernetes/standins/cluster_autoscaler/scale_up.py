"""Decides which group grows, and by how much, for pods that cannot be scheduled."""

from __future__ import annotations

import copy
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.api import ApiError, Object
from sandbox.kubernetes.standins.cluster_autoscaler.groups import Cloud, CloudError, Group, similar
from sandbox.kubernetes.standins.cluster_autoscaler.simulator import NodeShape, Place, place_all, requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kubernetes.standins.cluster_autoscaler.cluster import Cluster
    from sandbox.kubernetes.standins.cluster_autoscaler.flags import Flags
    from sandbox.kubernetes.standins.cluster_autoscaler.view import View

_LOG = logging.getLogger(__name__)
_BACKOFF_SECONDS = 300.0
# By these, groups that are alike differ: what a node is called, where it is, and which group it is of.
_OWN_LABELS = (
    "kubernetes.io/hostname",
    "topology.kubernetes.io/",
    "topology.ebs.csi.aws.com/",
    "failure-domain.beta.kubernetes.io/",
    "alpha.eksctl.io/",
    "eks.amazonaws.com/",
    "k8s.amazonaws.com/eniConfig",
    "lifecycle",
)


@dataclass(frozen=True)
class _Option:
    """One way to make room: more nodes in one group.

    Args:
        group: the group.
        shape: what its nodes are like.
        count: how many nodes.
        pods: those that get room.
        waste: how much of the new nodes' CPU and memory would be left over, 0 to 2.
    """

    group: Group
    shape: NodeShape
    count: int
    pods: Sequence[Object]
    waste: float


class ScaleUp:
    """Lets groups grow.

    Args:
        cluster: where pods wait.
        cloud: where groups are.
        flags: the arguments.
    """

    def __init__(self, cluster: Cluster, cloud: Cloud, flags: Flags) -> None:
        self._cluster = cluster
        self._cloud = cloud
        self._flags = flags
        self._upcoming_since: dict[str, float] = {}
        self._shut_until: dict[str, float] = {}
        self._told: dict[str, str] = {}

    def run(self, view: View) -> bool:
        """Make room for the pods that wait; say whether a group was made larger.

        Raises:
            CloudError: AWS refused.
            ApiError: the Kubernetes API refused.
        """
        waiting = [pod for pod in view.pods if self._waits(pod)]
        if not waiting:
            return False
        shapes = {name: self._shape(view, group) for name, group in view.groups.items()}
        coming = [
            view.fresh(shapes[name])
            for name, group in view.groups.items()
            for _ in range(self._upcoming(view, group))
        ]
        left = place_all(waiting, [*view.places().values(), *coming])
        if not left:
            return False
        options, reasons = [], []
        for name, group in view.groups.items():
            option, why_not = self._option(view, group, shapes[name], left)
            reasons.append(why_not)
            if option is not None:
                options.append(option)
        if not options:
            self._say_why_not(left, reasons)
            return False
        best = self._choose(options)
        self._grow(view, best, shapes)
        return True

    def _waits(self, pod: Object) -> bool:
        spec, status = pod["spec"], pod["status"]
        if (
            spec.get("nodeName")
            or status.get("phase") != "Pending"
            or pod["metadata"].get("deletionTimestamp")
        ):
            return False
        if spec.get("priority", 0) < self._flags.number("expendable-pods-priority-cutoff"):
            return False
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        if (datetime.now(UTC) - created).total_seconds() < self._flags.seconds("new-pod-scale-up-delay"):
            return False
        return any(
            each["type"] == "PodScheduled"
            and each["status"] == "False"
            and each.get("reason") == "Unschedulable"
            for each in status.get("conditions") or ()
        )

    def _shape(self, view: View, group: Group) -> NodeShape:
        """Return what a new node of a group is like: as one that is there, else as AWS describes it."""
        nodes = view.nodes_of(group)
        return NodeShape.of(nodes[0], template=True) if nodes else self._cloud.template(group)

    def _upcoming(self, view: View, group: Group) -> int:
        """Return how many nodes of a group are on their way, unless they are for too long."""
        count = group.desired - len(view.nodes_of(group))
        now = time.monotonic()
        if count <= 0:
            self._upcoming_since.pop(group.name, None)
            return 0
        since = self._upcoming_since.setdefault(group.name, now)
        if now - since < self._flags.seconds("max-node-provision-time"):
            return count
        if self._shut_until.get(group.name, 0.0) <= now:
            _LOG.warning("Nodes of group %s did not become ready in time; backing off", group.name)
            self._shut_until[group.name] = now + _BACKOFF_SECONDS
        return 0

    def _option(
        self, view: View, group: Group, shape: NodeShape, pods: Sequence[Object]
    ) -> tuple[_Option | None, dict[str, str]]:
        """Return how a group could help, and why it does not help which pod (by uid)."""
        room = group.maximum - group.desired
        limit = int(self._flags.number("max-nodes-total"))
        if limit:
            room = min(room, limit - len(view.nodes))
        fresh = view.fresh(shape)
        why_not = {pod["metadata"]["uid"]: reason for pod in pods if (reason := fresh.why_not(pod))}
        fitting = [pod for pod in pods if pod["metadata"]["uid"] not in why_not]
        if self._shut_until.get(group.name, 0.0) > time.monotonic():
            return None, {pod["metadata"]["uid"]: "in backoff after failed scale-up" for pod in pods}
        if room <= 0:
            return None, why_not | {pod["metadata"]["uid"]: "max node group size reached" for pod in fitting}
        places: list[Place] = []
        placed: list[Object] = []
        for pod in fitting:
            if place_all([pod], places):
                if len(places) == room:
                    continue
                places.append(copy.deepcopy(fresh))
                places[-1].take(pod)
            placed.append(pod)
        if not placed:
            return None, why_not
        waste = 0.0
        for resource in ("cpu", "memory"):
            total = shape.resources[resource] * len(places)
            waste += 1.0 - sum(float(requests(pod)[resource]) for pod in placed) / total
        return _Option(group, shape, len(places), placed, waste), why_not

    def _choose(self, options: Sequence[_Option]) -> _Option:
        expander = self._flags.text("expander")
        if expander == "random":
            return random.choice(options)  # noqa: S311  # no secret
        if expander == "most-pods":
            return max(options, key=lambda option: len(option.pods))
        return min(options, key=lambda option: option.waste)

    def _grow(self, view: View, option: _Option, shapes: dict[str, NodeShape]) -> None:
        groups = [option.group]
        if self._flags.on("balance-similar-node-groups"):
            groups += [
                group
                for name, group in view.groups.items()
                if name != option.group.name and similar(shapes[name], option.shape, _OWN_LABELS)
            ]
        sizes = {group.name: group.desired for group in groups}
        for _ in range(option.count):
            open_groups = [group for group in groups if sizes[group.name] < group.maximum]
            smallest = min(open_groups, key=lambda group: sizes[group.name])
            sizes[smallest.name] += 1
        grown = [group for group in groups if sizes[group.name] > group.desired]
        words = " ".join(
            f"{{{group.name} {group.desired}->{sizes[group.name]} (max: {group.maximum})}}" for group in grown
        )
        for group in grown:
            try:
                self._cloud.set_size(group, sizes[group.name])
            except CloudError:
                self._shut_until[group.name] = time.monotonic() + _BACKOFF_SECONDS
                raise
        for pod in option.pods:
            self._told.pop(pod["metadata"]["uid"], None)
            self._cluster.event(pod, "Pod", "TriggeredScaleUp", f"pod triggered scale-up: [{words}]")

    def _say_why_not(self, pods: Sequence[Object], reasons: Sequence[dict[str, str]]) -> None:
        for pod in pods:
            uid = pod["metadata"]["uid"]
            each = [by_pod[uid] for by_pod in reasons if uid in by_pod]
            words = ", ".join(f"{each.count(reason)} {reason}" for reason in sorted(set(each)))
            if self._told.get(uid) == words:
                continue
            self._told[uid] = words
            try:
                self._cluster.event(pod, "Pod", "NotTriggerScaleUp", f"pod didn't trigger scale-up: {words}")
            except ApiError as error:
                _LOG.warning("event: %s", error)
