"""One look at the cluster and its groups, on which all decisions of one round are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.devices import RESOURCE
from sandbox.kubernetes.standins.cluster_autoscaler.simulator import TO_BE_DELETED, NodeShape, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.kubernetes.node.api import Object
    from sandbox.kubernetes.standins.cluster_autoscaler.groups import Group

# Nodes with it have GPUs, and are not ready before these can be allocated.
ACCELERATOR_LABEL = "k8s.amazonaws.com/accelerator"


@dataclass(frozen=True)
class View:
    """What was seen.

    Args:
        groups: the node groups by name.
        nodes, pods, budgets: the cluster's nodes, pods and PodDisruptionBudgets.
        daemon_sets: the DaemonSets' pods, as templates.
        by_node: the pods that run on a node, by its name.
    """

    groups: Mapping[str, Group]
    nodes: Sequence[Object]
    pods: Sequence[Object]
    budgets: Sequence[Object]
    daemon_sets: Sequence[Object]
    by_node: dict[str, list[Object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pod in self.pods:
            name = pod["spec"].get("nodeName")
            if name and pod["status"].get("phase") not in {"Succeeded", "Failed"}:
                self.by_node.setdefault(name, []).append(pod)

    def group_of(self, node: Object) -> Group | None:
        """Return the group whose instance a node is."""
        instance = instance_id(node)
        return next((group for group in self.groups.values() if instance in group.instances), None)

    def nodes_of(self, group: Group) -> list[Object]:
        """Return the nodes of a group that take pods, or will when they are let."""
        return [node for node in self.nodes if instance_id(node) in group.instances and is_ready(node)]

    def place(self, node: Object) -> Place:
        """Return a node with its pods."""
        place = Place(NodeShape.of(node))
        for pod in self.by_node.get(node["metadata"]["name"], ()):
            place.take(pod)
        return place

    def places(self) -> dict[str, Place]:
        """Return the nodes that the scheduler may use, by name."""
        return {
            node["metadata"]["name"]: self.place(node)
            for node in self.nodes
            if is_ready(node) and not node["spec"].get("unschedulable") and not is_leaving(node)
        }

    def fresh(self, shape: NodeShape) -> Place:
        """Return a new node with the pods of the DaemonSets that run there."""
        place = Place(shape)
        for pod in self.daemon_sets:
            if place.why_not(pod) is None:
                place.take(pod)
        return place


def instance_id(node: Object) -> str:
    """Return the id of a node's instance, from "aws:///us-east-1a/i-0abc"."""
    return str(node["spec"].get("providerID") or "").rpartition("/")[2]


def is_ready(node: Object) -> bool:
    """Say whether a node is ready, with its GPUs if its label says that it has some."""
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions") or ()}
    labels = node["metadata"].get("labels") or {}
    gpus = (node["status"].get("allocatable") or {}).get(RESOURCE, "0")
    return conditions.get("Ready") == "True" and (ACCELERATOR_LABEL not in labels or gpus != "0")


def is_leaving(node: Object) -> bool:
    """Say whether a node is being taken away."""
    return any(taint["key"] == TO_BE_DELETED for taint in node["spec"].get("taints") or ())
