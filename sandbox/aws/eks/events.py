"""The changes to EKS that no request asks for: what runs behind a cluster reports that it is ready, or gone.

Each is journalled; played again they leave the same state.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.eks import instances

if TYPE_CHECKING:
    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import Cluster, Nodegroup, State


class Events:
    """Registers the changes with the cloud.

    Args:
        cloud: the account.
        state: EKS's state.
    """

    def __init__(self, cloud: Cloud, state: State) -> None:
        self._state = state
        for name in (
            "cluster_ready",
            "cluster_failed",
            "cluster_deleted",
            "addon_settled",
            "nodegroup_launched",
            "nodegroup_active",
            "nodegroup_failed",
            "nodegroup_scaled",
            "nodegroup_deleted",
            "node_numbered",
            "instances_draining",
            "instances_removed",
            "updates_done",
        ):
            cloud.on_event(f"eks.{name}", getattr(self, name))

    def _nodegroup(self, cluster: str, nodegroup: str) -> tuple[Cluster, Nodegroup]:
        found = self._state.clusters[cluster]
        return found, found.nodegroups[nodegroup]

    def cluster_ready(self, cluster: str, endpoint: str, authority: str) -> None:
        """The control plane answers."""
        data = self._state.clusters[cluster].data
        if data["status"] == "CREATING":
            data["status"] = "ACTIVE"
        data["endpoint"] = endpoint
        data["certificateAuthority"] = {"data": authority}

    def cluster_failed(self, cluster: str, message: str) -> None:
        """The control plane did not come up."""
        data = self._state.clusters[cluster].data
        if data["status"] == "CREATING":
            data["status"] = "FAILED"
            data["health"] = {"issues": [{"code": "Other", "message": message, "resourceIds": [cluster]}]}

    def cluster_deleted(self, cluster: str) -> None:
        """The control plane is gone: what it had in the VPC goes too."""
        gone = self._state.clusters.pop(cluster)
        ec2 = ec2_backends[ACCOUNT_ID][gone.region]
        for interface_id in gone.interface_ids:
            ec2.enis.pop(interface_id, None)
        group_id = gone.data["resourcesVpcConfig"]["clusterSecurityGroupId"]
        for interface in ec2.enis.values():
            if any(group.id == group_id for group in interface.group_set):
                return  # as on AWS, a group that something else uses stays behind
        with contextlib.suppress(KeyError):
            del ec2.groups[gone.data["resourcesVpcConfig"]["vpcId"]][group_id]

    def addon_settled(self, cluster: str, addon: str, status: str) -> None:
        """An add-on is active, or deleted."""
        addons = self._state.clusters[cluster].addons
        if status == "DELETED":
            gone = addons.pop(addon)
            for arn in gone.get("podIdentityAssociations", []):
                self._state.clusters[cluster].pod_identities.pop(arn.rpartition("/")[2], None)
        else:
            addons[addon]["status"] = status

    def nodegroup_launched(self, cluster: str, nodegroup: str) -> None:
        """The instances of a new node group are launched."""
        instances.launch(*self._nodegroup(cluster, nodegroup))

    def nodegroup_active(self, cluster: str, nodegroup: str) -> None:
        """All nodes of a node group have joined."""
        _, found = self._nodegroup(cluster, nodegroup)
        if found.data["status"] in {"CREATING", "UPDATING", "DEGRADED"}:
            found.data["status"] = "ACTIVE"
            found.data["health"] = {"issues": []}

    def nodegroup_failed(self, cluster: str, nodegroup: str, code: str, message: str) -> None:
        """Nodes of a node group cannot join."""
        _, found = self._nodegroup(cluster, nodegroup)
        if found.data["status"] == "CREATING":
            found.data["status"] = "CREATE_FAILED"
        elif found.data["status"] == "ACTIVE":
            found.data["status"] = "DEGRADED"
        found.data["health"] = {
            "issues": [{"code": code, "message": message, "resourceIds": instances.running(found)}]
        }

    def nodegroup_scaled(self, cluster: str, nodegroup: str) -> None:
        """The Auto Scaling group follows the desired size upwards."""
        instances.scale(self._nodegroup(cluster, nodegroup)[1])

    def nodegroup_deleted(self, cluster: str, nodegroup: str) -> None:
        """All nodes of a node group are gone."""
        found, gone = self._nodegroup(cluster, nodegroup)
        for instance_id in instances.running(gone):
            self._state.node_numbers.pop(instance_id, None)
        instances.delete(gone)
        del found.nodegroups[nodegroup]

    def node_numbered(self, instance_id: str) -> int:
        """An instance gets the address of its node; returns the address's last octet."""
        numbers = self._state.node_numbers
        if instance_id not in numbers:
            numbers[instance_id] = next(each for each in range(1, 255) if each not in numbers.values())
        return numbers[instance_id]

    def instances_draining(self, cluster: str, nodegroup: str, instance_ids: list[str]) -> None:
        """Instances that are about to go get no more requests from load balancers."""
        instances.deregister(self._nodegroup(cluster, nodegroup)[1], instance_ids)

    def instances_removed(self, cluster: str, nodegroup: str, instance_ids: list[str], replace: bool) -> None:
        """Nodes have stopped: their instances end, their addresses are free."""
        found = self._state.clusters.get(cluster)
        if found is not None and nodegroup in found.nodegroups:
            group = found.nodegroups[nodegroup]
            instances.terminate(group, instance_ids, replace=replace)
            group.outdated = [each for each in group.outdated if each not in instance_ids]
        for instance_id in instance_ids:
            self._state.node_numbers.pop(instance_id, None)

    def updates_done(self, cluster: str) -> None:
        """All updates under way have taken effect."""
        for update in self._state.clusters[cluster].updates.values():
            if update["status"] == "InProgress":
                update["status"] = "Successful"


def snapshot_node(cluster: Cluster, nodegroup: Nodegroup, instance_id: str) -> dict[str, Any]:
    """Return what a node of a node group is started with, as plain values."""
    data, instance = nodegroup.data, instances.describe(nodegroup, instance_id)
    zone = instances.zone(nodegroup, instance_id)
    labels = {
        "eks.amazonaws.com/nodegroup": data["nodegroupName"],
        "eks.amazonaws.com/capacityType": data["capacityType"],
        "eks.amazonaws.com/sourceLaunchTemplateId": nodegroup.template_id,
        "node.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/region": nodegroup.region,
        "topology.kubernetes.io/zone": zone,
        **data["labels"],
    }
    return {
        "name": instance.private_dns_name,
        "provider_id": f"aws:///{zone}/{instance_id}",
        "labels": labels,
        "taints": taints(data),
        "gpus": instances.gpu_count(instance.instance_type),
        "cluster": cluster.name,
    }


_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}


def taints(data: dict[str, Any]) -> list[dict[str, str]]:
    """Return the taints of a node group as Kubernetes writes them."""
    return [
        {"key": each["key"], "value": each.get("value", ""), "effect": _EFFECTS[each["effect"]]}
        for each in data.get("taints", [])
    ]
