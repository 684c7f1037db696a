"""Keeps what runs in line with what EKS's state says: control planes, nodes, and nothing else.

One thread for each cluster looks at the state after every change, does the next thing, and records what came
of it. After a restart of the sandbox the same look starts everything again.
"""

from __future__ import annotations

import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sandbox.aws import cluster as runtime
from sandbox.aws.eks import catalogue, instances
from sandbox.aws.eks.events import snapshot_node, taints
from sandbox.processes import Process, ProcessError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import Cluster, State

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 5.0
_NODE_ATTEMPTS = 3


class Controller:
    """All clusters' threads.

    Args:
        cloud: the account.
        state: EKS's state.
        environment: the environment of nodes, with credentials for the registry.
    """

    def __init__(self, cloud: Cloud, state: State, environment: Mapping[str, str]) -> None:
        self._cloud = cloud
        self._state = state
        self._environment = environment
        self._workers: dict[str, _Worker] = {}
        self._guard = threading.Lock()
        self._stopped = False
        cloud.on_change(self._look)

    def _look(self) -> None:
        names = self._cloud.inside(lambda: list(self._state.clusters))
        with self._guard:
            if self._stopped:
                return
            for name in names:
                worker = self._workers.get(name)
                if worker is None or not worker.is_alive():
                    worker = _Worker(self._cloud, self._state, name, self._environment)
                    self._workers[name] = worker
                    worker.start()
                worker.wake()

    def stop(self) -> None:
        """Stop all that runs; the state stays as it is."""
        with self._guard:
            self._stopped = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.join()

    def healthy(self) -> dict[str, bool]:
        """Say for each cluster whether its control plane runs."""
        with self._guard:
            return {name: worker.running for name, worker in self._workers.items() if worker.is_alive()}


class _Worker(threading.Thread):
    """Looks after one cluster."""

    def __init__(self, cloud: Cloud, state: State, name: str, environment: Mapping[str, str]) -> None:
        super().__init__(name=f"eks-{name}", daemon=True)
        self._cloud = cloud
        self._state = state
        self._cluster = name
        self._environment = environment
        self._directory = cloud.directory / "eks" / name
        self._wake = threading.Event()
        self._end = threading.Event()
        self._control_plane: runtime.ControlPlane | None = None
        self._nodes: dict[str, tuple[str, Process]] = {}  # by instance id: the node's name and process
        self._attempts: dict[str, int] = {}  # by node group, how often its nodes did not start
        self._groups: dict[str, str] = {}  # by instance id: its node group
        self._applied: dict[str, tuple[dict[str, str], list[dict[str, str]]]] = {}

    @property
    def running(self) -> bool:
        return self._control_plane is not None and self._control_plane.process.alive()

    def wake(self) -> None:
        self._wake.set()

    def end(self) -> None:
        self._end.set()
        self._wake.set()

    def run(self) -> None:
        while not self._end.is_set():
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()
            if self._end.is_set():
                break
            try:
                if not self._step():
                    break
            except runtime.CancelledError:
                continue
            except ProcessError as error:
                _log.error("cluster %s: %s", self._cluster, error)  # the trace says nothing more
                self._end.wait(_RETRY_SECONDS)
            except Exception:  # noqa: BLE001  # the thread must go on looking after its cluster
                _log.exception("cluster %s", self._cluster)
                self._end.wait(_RETRY_SECONDS)
        self._stop_all()

    def _record(self, event: str, **payload: Any) -> Any:
        return self._cloud.record(f"eks.{event}", cluster=self._cluster, **payload)

    def _unwanted(self) -> bool:
        """Say whether what is being started is not wanted any more."""
        cluster = self._state.clusters.get(self._cluster)
        return self._end.is_set() or cluster is None or cluster.data["status"] == "DELETING"

    def _look(self) -> dict[str, Any] | None:
        """Return a copy of what matters of the cluster's state; None when it is gone."""
        cluster: Cluster | None = self._state.clusters.get(self._cluster)
        if cluster is None:
            return None
        return {
            "status": cluster.data["status"],
            "number": cluster.number,
            "endpoint": cluster.data.get("endpoint"),
            "authority": cluster.data["certificateAuthority"].get("data"),
            "addons": {name: addon["status"] for name, addon in cluster.addons.items()},
            "updating": any(update["status"] == "InProgress" for update in cluster.updates.values()),
            "nodegroups": {
                name: {
                    "status": group.data["status"],
                    "launched": bool(group.group_name),
                    "role": group.data["nodeRole"],
                    "desired": group.data["scalingConfig"]["desiredSize"],
                    "instances": instances.running(group),
                    "outdated": list(group.outdated),
                    "labels": dict(group.data["labels"]),
                    "taints": taints(group.data),
                    "can_join": instances.role_can_join(group.data["nodeRole"]),
                }
                for name, group in cluster.nodegroups.items()
            },
        }

    def _step(self) -> bool:
        """Do what is to be done; returns whether there is a cluster left to look after."""
        seen = self._cloud.inside(self._look)
        if seen is None:
            return False
        if seen["status"] == "DELETING":
            self._stop_all()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._record("cluster_deleted")
            return False
        if seen["status"] == "FAILED":
            return True
        if not self._bring_control_plane_up(seen):
            return True
        for name, group in seen["nodegroups"].items():
            self._reconcile_nodegroup(name, group)
        self._remove_strays(seen)
        self._settle_addons(seen)
        settled = all(
            group["status"] not in {"UPDATING", "CREATING"} for group in seen["nodegroups"].values()
        )
        if seen["updating"] and settled:
            self._record("updates_done")
        return True

    def _bring_control_plane_up(self, seen: dict[str, Any]) -> bool:
        if self.running:
            return True
        addresses = self._cloud.addresses
        host = addresses.kubernetes
        if seen["number"]:
            host = f"{host.rpartition('.')[0]}.{3 + seen['number']}"
        webhook = f"{addresses.endpoint}/_sandbox/eks/{self._cluster}/token-review"
        try:
            plane = runtime.start_control_plane(
                self._directory / "control-plane", host, webhook, self._unwanted
            )
        except ProcessError as error:
            if seen["status"] == "CREATING":
                self._record("cluster_failed", message=str(error))
                return False
            raise
        self._control_plane = plane
        if (plane.endpoint, plane.certificate_authority_data) != (seen["endpoint"], seen["authority"]):
            self._record("cluster_ready", endpoint=plane.endpoint, authority=plane.certificate_authority_data)
        return True

    def _reconcile_nodegroup(self, name: str, group: dict[str, Any]) -> None:
        status = group["status"]
        if status == "DELETING":
            self._stop_nodes(name, [each for each, owner in self._groups.items() if owner == name])
            self._record("nodegroup_deleted", nodegroup=name)
            return
        if status == "CREATE_FAILED":
            return
        if not group["launched"]:
            self._record("nodegroup_launched", nodegroup=name)
            self.wake()
            return
        if not group["can_join"]:
            if status == "CREATING":
                message = "Instances failed to join the kubernetes cluster"
                self._record("nodegroup_failed", nodegroup=name, code="NodeCreationFailure", message=message)
            return
        if status == "UPDATING" and not self._reshape(name, group):
            return
        if self._start_nodes(name, group) and status in {"CREATING", "UPDATING", "DEGRADED"}:
            self._apply_settings(name, group)
            self._record("nodegroup_active", nodegroup=name)

    def _reshape(self, name: str, group: dict[str, Any]) -> bool:
        """Bring a node group nearer to its new size or version; returns whether it is there."""
        live = group["instances"]
        if len(live) > group["desired"]:
            self._retire(name, live[group["desired"] :], replace=False)
            self._record("nodegroup_scaled", nodegroup=name)
        elif len(live) < group["desired"]:
            self._record("nodegroup_scaled", nodegroup=name)
        elif group["outdated"]:
            # One after the other, the old one first: no spare GPU is needed (update strategy MINIMAL).
            self._start_nodes(name, group)
            self._retire(name, group["outdated"][:1], replace=True)
        else:
            return True
        self.wake()
        return False

    def _retire(self, name: str, instance_ids: list[str], *, replace: bool) -> None:
        self._record("instances_draining", nodegroup=name, instance_ids=instance_ids)
        self._stop_nodes(name, instance_ids)
        self._record("instances_removed", nodegroup=name, instance_ids=instance_ids, replace=replace)

    def _start_nodes(self, name: str, group: dict[str, Any]) -> bool:
        """Start the nodes that do not run; returns whether all do. Says so where they cannot be started."""
        missing = [
            each for each in group["instances"] if each not in self._nodes or not self._nodes[each][1].alive()
        ]
        if not missing:
            self._attempts.pop(name, None)
            return True
        try:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="node") as pool:
                list(pool.map(lambda each: self._start_node(name, each), missing))
        except ProcessError as error:
            self._attempts[name] = self._attempts.get(name, 0) + 1
            if self._attempts[name] < _NODE_ATTEMPTS:
                raise
            _log.error("cluster %s: %s", self._cluster, error)  # the trace says nothing more
            message = f"Instances failed to join the kubernetes cluster: {error}"
            self._record("nodegroup_failed", nodegroup=name, code="NodeCreationFailure", message=message)
            self._end.wait(_RETRY_SECONDS)
            return False
        return True

    def _start_node(self, name: str, instance_id: str) -> None:
        if self._control_plane is None or self._end.is_set():
            return
        number = self._cloud.record("eks.node_numbered", instance_id=instance_id)

        def look() -> dict[str, Any]:
            cluster = self._state.clusters[self._cluster]
            return snapshot_node(cluster, cluster.nodegroups[name], instance_id)

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
            environment=self._environment,
        )
        process = runtime.start_node(
            self._directory / "nodes" / instance_id, self._control_plane, spec, self._unwanted
        )
        self._nodes[instance_id] = (seen["name"], process)
        self._groups[instance_id] = name

    def _apply_settings(self, name: str, group: dict[str, Any]) -> None:
        """Give running nodes the labels and taints that were changed since they started."""
        wanted = (group["labels"], group["taints"])
        before = self._applied.get(name)
        self._applied[name] = wanted
        if before is None or before == wanted:
            return
        labels: dict[str, str | None] = dict(wanted[0])
        labels.update({key: None for key in before[0] if key not in wanted[0]})
        for instance_id, owner in self._groups.items():
            if owner == name and self._control_plane is not None:
                runtime.set_node(self._control_plane, self._nodes[instance_id][0], labels, wanted[1])

    def _remove_strays(self, seen: dict[str, Any]) -> None:
        """Stop nodes whose instance was ended by other means than the node group."""
        live = {each for group in seen["nodegroups"].values() for each in group["instances"]}
        for instance_id, owner in list(self._groups.items()):
            if instance_id not in live:
                self._stop_nodes(owner, [instance_id])
                self._record("instances_removed", nodegroup=owner, instance_ids=[instance_id], replace=False)

    def _stop_nodes(self, name: str, instance_ids: list[str]) -> None:
        """Drain and stop nodes."""
        owned = [each for each in instance_ids if self._groups.get(each) == name]
        if owned:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="drain") as pool:
                list(pool.map(self._stop_node, owned))

    def _stop_node(self, instance_id: str) -> None:
        name, process = self._nodes[instance_id]
        if self._control_plane is not None and self.running and process.alive():
            runtime.drain(self._control_plane, name, self._end.is_set)
        runtime.stop(process)
        if self._control_plane is not None and self.running:
            runtime.remove_node(self._control_plane, name)
        del self._nodes[instance_id]
        del self._groups[instance_id]
        shutil.rmtree(self._directory / "nodes" / instance_id, ignore_errors=True)

    def _settle_addons(self, seen: dict[str, Any]) -> None:
        has_nodes = any(
            group["status"] == "ACTIVE" and group["instances"] for group in seen["nodegroups"].values()
        )
        for name, status in seen["addons"].items():
            if status == "DELETING":
                self._record("addon_settled", addon=name, status="DELETED")
            elif status == "CREATING" and (has_nodes or name not in catalogue.NEED_NODES):
                self._record("addon_settled", addon=name, status="ACTIVE")

    def _stop_all(self) -> None:
        """Stop nodes, then the control plane, without draining."""
        nodes, self._nodes, self._groups = list(self._nodes.values()), {}, {}
        if nodes:
            with ThreadPoolExecutor(max_workers=8, thread_name_prefix="stop") as pool:
                list(pool.map(lambda node: runtime.stop(node[1]), nodes))
        if self._control_plane is not None:
            runtime.stop(self._control_plane.process)
            self._control_plane = None
