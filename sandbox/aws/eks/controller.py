"""Keeps what runs in line with what EKS's state says: control planes, nodes, and nothing else.

One thread for each cluster looks at the state after every change, does the next thing, and records what came
of it. After a restart of the sandbox the same look starts everything again.
"""

from __future__ import annotations

import logging
import shutil
import threading
from typing import TYPE_CHECKING, Any

from sandbox.aws import cluster as runtime
from sandbox.aws.eks import catalogue, instances
from sandbox.aws.eks.events import taints
from sandbox.aws.eks.nodes import Nodes
from sandbox.processes import ProcessError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import Cluster, Nodegroup, State

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

    def control_plane(self, name: str) -> runtime.ControlPlane | None:
        """Return the control plane of a cluster, or None while it does not run."""
        with self._guard:
            worker = self._workers.get(name)
        return worker.control_plane() if worker is not None and worker.is_alive() else None

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
        self._directory = cloud.directory / "eks" / name
        self._wake = threading.Event()
        self._end = threading.Event()
        self._control_plane: runtime.ControlPlane | None = None
        self._attempts: dict[str, int] = {}  # by node group, how often its nodes did not start
        self._nodes = Nodes(
            cloud,
            state,
            name,
            self._directory / "nodes",
            environment,
            self.control_plane,
            self._unwanted,
            self._end,
        )

    @property
    def running(self) -> bool:
        return self._control_plane is not None and self._control_plane.process.alive()

    def control_plane(self) -> runtime.ControlPlane | None:
        return self._control_plane if self.running else None

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
            "nodegroups": {name: _look_at(group) for name, group in cluster.nodegroups.items()},
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
        webhook = f"{addresses.endpoint}/_sandbox/eks/{self._cluster}/token-review"
        try:
            plane = runtime.start_control_plane(
                self._directory / "control-plane",
                addresses.control_plane(seen["number"]),
                webhook,
                self._unwanted,
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
        if status != "CREATE_FAILED":
            self._let_go(name, group)
        if status == "DELETING":
            if not (group["instances"] or group["leaving"] or group["ended"] or self._nodes.of(name)):
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
        if not self._fill(name, group):
            return
        started = self._start_nodes(name, group)
        if status == "UPDATING" and not self._renew(name, group, started=started):
            return
        if started and not group["leaving"] and status in {"CREATING", "UPDATING", "DEGRADED"}:
            self._nodes.apply(name, group["labels"], group["taints"])
            if group["complete"]:
                self._record("nodegroup_active", nodegroup=name)

    def _let_go(self, name: str, group: dict[str, Any]) -> None:
        """Begin with the nodes that have to go."""
        for instance_id in group["leaving"]:
            self._nodes.retire(name, instance_id)
        for instance_id, deadline in group["noticed"].items():
            self._nodes.interrupt(name, instance_id, deadline)
        known = {*group["instances"], *group["leaving"]}
        for instance_id in [*group["ended"], *(each for each in self._nodes.of(name) if each not in known)]:
            self._nodes.lose(name, instance_id)

    def _fill(self, name: str, group: dict[str, Any]) -> bool:
        """Launch what is missing to the desired size; returns whether the group can be looked at as it is."""
        waits_for_room = group["status"] == "UPDATING" and group["minimal"] and group["leaving"]
        if group["complete"] or waits_for_room:
            return True
        if group["launchable"] or not group["failures"]:
            self._record("nodegroup_topped_up", nodegroup=name)
            self.wake()
            return False
        if group["status"] in {"ACTIVE", "UPDATING"}:
            # What was asked of EKS is done with; Auto Scaling goes on trying.
            message = "; ".join(group["failures"])
            code = "AsgInstanceLaunchFailures"
            self._record("nodegroup_failed", nodegroup=name, code=code, message=message)
        return True

    def _renew(self, name: str, group: dict[str, Any], *, started: bool) -> bool:
        """Replace the nodes of an older version, one after the other; returns whether none is left.

        With the strategy MINIMAL the old one goes first, so that no spare machine is needed; else the new one
        comes first.
        """
        if not group["outdated"]:
            return not group["leaving"]
        if not started or group["leaving"]:
            return False
        if not group["minimal"] and not group["surge"]:
            if group["launchable"]:
                self._record("nodegroup_surged", nodegroup=name)
            else:
                self._record("update_failed", nodegroup=name)
        else:
            self._record("instance_replaced", nodegroup=name, instance_id=group["outdated"][0])
        self.wake()
        return False

    def _start_nodes(self, name: str, group: dict[str, Any]) -> bool:
        """Start the nodes that do not run; returns whether all do. Says so where they cannot be started."""
        if not self._nodes.missing(group["instances"]):
            self._attempts.pop(name, None)
            return True
        try:
            self._nodes.start(name, group["instances"])
        except ProcessError as error:
            self._attempts[name] = self._attempts.get(name, 0) + 1
            if self._attempts[name] < _NODE_ATTEMPTS:
                raise
            _log.error("cluster %s: %s", self._cluster, error)  # the trace says nothing more
            message = f"Instances failed to join the kubernetes cluster: {error}"
            self._record("nodegroup_failed", nodegroup=name, code="NodeCreationFailure", message=message)
            self._end.wait(_RETRY_SECONDS)
            return False
        return not self._nodes.missing(group["instances"])

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
        self._nodes.stop_all()
        if self._control_plane is not None:
            runtime.stop(self._control_plane.process)
            self._control_plane = None


def _look_at(group: Nodegroup) -> dict[str, Any]:
    """Return a copy of what matters of a node group's state."""
    active = instances.running(group)
    return {
        "status": group.data["status"],
        "launched": bool(group.group_name),
        "instances": active,
        "leaving": instances.leaving(group),
        "ended": instances.ended(group),
        "noticed": dict(group.noticed),
        "outdated": [each for each in group.outdated if each in active],
        "surge": group.surge,
        "minimal": group.data["updateConfig"].get("updateStrategy") == "MINIMAL",
        "complete": len(active) >= instances.scaling(group)["desiredSize"],
        "launchable": instances.launchable(group),
        "failures": instances.failures(group),
        "labels": dict(group.data["labels"]),
        "taints": taints(group.data),
        "can_join": instances.role_can_join(group.data["nodeRole"]),
    }
