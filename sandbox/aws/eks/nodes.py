"""The nodes of one cluster: their processes, and how each comes, is drained, and goes."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.aws import cluster as runtime
from sandbox.aws.eks.events import snapshot_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import State
    from sandbox.processes import Process

_log = logging.getLogger(__name__)
_ATTEMPTS_TO_REMOVE = 3


@dataclass(frozen=True)
class _Node:
    name: str
    group: str
    process: Process


class Nodes:
    """Starts and ends the nodes of a cluster. Each that goes is drained in a thread of its own.

    Args:
        cloud: the account.
        state: EKS's state.
        cluster: the cluster's name.
        directory: where nodes keep what they keep.
        environment: the environment of nodes, with credentials for the registry.
        control_plane: gives the cluster's control plane, or None while it does not run.
        unwanted: says whether what is being started is not wanted any more.
        ending: set when the sandbox stops.
    """

    def __init__(
        self,
        cloud: Cloud,
        state: State,
        cluster: str,
        directory: Path,
        environment: Mapping[str, str],
        control_plane: Callable[[], runtime.ControlPlane | None],
        unwanted: Callable[[], bool],
        ending: threading.Event,
    ) -> None:
        self._cloud = cloud
        self._state = state
        self._cluster = cluster
        self._directory = directory
        self._environment = environment
        self._control_plane = control_plane
        self._unwanted = unwanted
        self._ending = ending
        self._nodes: dict[str, _Node] = {}  # by instance id
        self._going: dict[str, threading.Thread] = {}
        self._applied: dict[str, tuple[dict[str, str], list[dict[str, str]]]] = {}

    def of(self, group: str) -> list[str]:
        """Return the ids of the instances of a node group that have a node."""
        return [instance_id for instance_id, node in list(self._nodes.items()) if node.group == group]

    def going(self, group: str) -> list[str]:
        """Return the ids of the instances of a node group whose nodes are on their way out."""
        return [each for each in self.of(group) if each in self._going]

    def missing(self, instance_ids: Iterable[str]) -> list[str]:
        """Return the ids of those instances that have no running node."""
        return [
            each for each in instance_ids if each not in self._nodes or not self._nodes[each].process.alive()
        ]

    def start(self, group: str, instance_ids: Iterable[str]) -> None:
        """Start nodes that do not run.

        Raises:
            ProcessError: one did not come up.
            CancelledError: they are not wanted any more.
        """
        missing = [each for each in self.missing(instance_ids) if each not in self._going]
        if missing:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="node") as pool:
                list(pool.map(lambda each: self._start(group, each), missing))

    def _start(self, group: str, instance_id: str) -> None:
        plane = self._control_plane()
        if plane is None or self._ending.is_set():
            return
        number = self._cloud.record("eks.node_numbered", instance_id=instance_id)

        def look() -> dict[str, Any]:
            cluster = self._state.clusters[self._cluster]
            return snapshot_node(cluster, cluster.nodegroups[group], instance_id)

        seen = self._cloud.inside(look)
        spec = runtime.NodeSpec(
            name=seen["name"],
            address=self._cloud.addresses.node(number),
            pod_network=self._cloud.addresses.pod_network,
            registry=self._cloud.addresses.endpoint,
            provider_id=seen["provider_id"],
            labels=seen["labels"],
            taints=tuple(f"{each['key']}={each['value']}:{each['effect']}" for each in seen["taints"]),
            gpus=seen["gpus"],
            device_plugin=seen["device_plugin"],
            network_policy=seen["network_policy"],
            cluster=self._cluster,
            region=seen["region"],
            environment=self._environment,
        )
        process = runtime.start_node(self._directory / instance_id, plane, spec, self._unwanted)
        self._nodes[instance_id] = _Node(seen["name"], group, process)

    def apply(self, group: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Give the running nodes of a group the labels and taints that were changed since they started."""
        wanted = (labels, taints)
        before = self._applied.get(group)
        self._applied[group] = wanted
        plane = self._control_plane()
        if before is None or before == wanted or plane is None:
            return
        changed: dict[str, str | None] = {key: None for key in before[0] if key not in labels}
        changed.update(labels)
        for instance_id in self.of(group):
            runtime.set_node(plane, self._nodes[instance_id].name, changed, taints)

    # How nodes go

    def retire(self, group: str, instance_id: str) -> None:
        """Begin to drain a node; its instance ends when that is done."""
        self._go(group, instance_id, lambda: self._drain_and_remove(group, instance_id))

    def interrupt(self, group: str, instance_id: str, deadline: float) -> None:
        """Begin to drain a node whose instance EC2 takes back at `deadline`, in seconds since 1970."""
        self._go(group, instance_id, lambda: self._drain_until(group, instance_id, deadline))

    def lose(self, group: str, instance_id: str) -> None:
        """End a node whose instance has ended without notice."""
        self._go(group, instance_id, lambda: self._remove(group, instance_id))

    def _go(self, group: str, instance_id: str, work: Callable[[], None]) -> None:
        if instance_id in self._going:
            return

        def run() -> None:
            for attempt in range(1, _ATTEMPTS_TO_REMOVE + 1):
                try:
                    work()
                except runtime.CancelledError:
                    return
                except Exception:  # noqa: BLE001  # the node must not stay for ever
                    _log.exception("node group %s of cluster %s: %s", group, self._cluster, instance_id)
                    if attempt < _ATTEMPTS_TO_REMOVE and not self._ending.wait(1.0):
                        continue
                break
            self._going.pop(instance_id, None)

        thread = threading.Thread(target=run, name=f"drain-{instance_id}", daemon=True)
        self._going[instance_id] = thread
        thread.start()

    def _drain_and_remove(self, group: str, instance_id: str) -> None:
        self._cloud.record(
            "eks.instances_draining", cluster=self._cluster, nodegroup=group, instance_ids=[instance_id]
        )
        node, plane = self._nodes.get(instance_id), self._control_plane()
        if node is not None and plane is not None and node.process.alive():
            runtime.drain(plane, node.name, self._ending.is_set)
        self._remove(group, instance_id)

    def _drain_until(self, group: str, instance_id: str, deadline: float) -> None:
        node, plane = self._nodes.get(instance_id), self._control_plane()
        if node is not None and plane is not None and node.process.alive():
            # EKS evicts only: what a disruption budget keeps on the node goes down with it.
            runtime.drain(
                plane,
                node.name,
                self._ending.is_set,
                seconds=max(0.0, deadline - time.time()),
                force=False,
            )
        if self._ending.wait(max(0.0, deadline - time.time())):
            raise runtime.CancelledError
        self._remove(group, instance_id)

    def _remove(self, group: str, instance_id: str) -> None:
        """Stop a node's process, forget the node, and end its instance."""
        node, plane = self._nodes.get(instance_id), self._control_plane()
        if node is not None:
            runtime.stop(node.process)
            if plane is not None and plane.process.alive():
                runtime.remove_node(plane, node.name)
            shutil.rmtree(self._directory / instance_id, ignore_errors=True)
        if self._ending.is_set():
            raise runtime.CancelledError
        self._cloud.record(
            "eks.instances_removed", cluster=self._cluster, nodegroup=group, instance_ids=[instance_id]
        )
        self._nodes.pop(instance_id, None)

    def stop_all(self) -> None:
        """Stop all nodes at once, without draining."""
        nodes, self._nodes = list(self._nodes.values()), {}
        if nodes:
            with ThreadPoolExecutor(max_workers=8, thread_name_prefix="stop") as pool:
                list(pool.map(lambda node: runtime.stop(node.process), nodes))
        for thread in list(self._going.values()):
            thread.join(timeout=1.0)
