"""The changes to EKS that no request asks for: what runs behind a cluster reports that it is ready, or gone.

Each is journalled; played again they leave the same state.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import yaml
from moto.ec2.models import ec2_backends

from sandbox.aws.capacity import limits
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
        self._cloud = cloud
        self._state = state
        for name in (
            "cluster_ready",
            "cluster_failed",
            "cluster_deleted",
            "addon_settled",
            "nodegroup_launched",
            "nodegroup_active",
            "nodegroup_failed",
            "nodegroup_topped_up",
            "nodegroup_surged",
            "instance_replaced",
            "nodegroup_deleted",
            "node_numbered",
            "instances_draining",
            "instances_removed",
            "interruption_noticed",
            "updates_done",
            "update_failed",
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
        """The instances of a new node group are launched, or could not be."""
        found = self._nodegroup(cluster, nodegroup)
        instances.launch(*found)
        self._note_failures(found[1])

    def nodegroup_topped_up(self, cluster: str, nodegroup: str) -> None:
        """The Auto Scaling group launches the instances that are missing to its desired size."""
        _, found = self._nodegroup(cluster, nodegroup)
        instances.top_up(found)
        self._note_failures(found)

    def nodegroup_surged(self, cluster: str, nodegroup: str) -> None:
        """An update launches one instance more than are desired, before it takes an old one away."""
        _, found = self._nodegroup(cluster, nodegroup)
        found.surge = 1
        instances.grow(found, 1)
        self._note_failures(found)

    def instance_replaced(self, cluster: str, nodegroup: str, instance_id: str) -> None:
        """An update takes an instance of an older version away; with the last one the surge is over."""
        _, found = self._nodegroup(cluster, nodegroup)
        instances.let_go(found, instance_id)
        found.outdated.remove(instance_id)
        if not found.outdated and found.surge:
            instances.grow(found, -found.surge)
            found.surge = 0

    def _note_failures(self, nodegroup: Nodegroup) -> None:
        failures = instances.failures(nodegroup)
        if failures:
            issues = [("AsgInstanceLaunchFailures", each, [nodegroup.group_name]) for each in failures]
            _degrade(nodegroup, issues)

    def nodegroup_active(self, cluster: str, nodegroup: str) -> None:
        """All nodes of a node group have joined."""
        _, found = self._nodegroup(cluster, nodegroup)
        if found.data["status"] in {"CREATING", "UPDATING", "DEGRADED"}:
            found.data["status"] = "ACTIVE"
            found.data["health"] = {"issues": []}

    def nodegroup_failed(self, cluster: str, nodegroup: str, code: str, message: str) -> None:
        """Nodes of a node group cannot be launched, or cannot join."""
        _, found = self._nodegroup(cluster, nodegroup)
        is_launch = code == "AsgInstanceLaunchFailures"
        _degrade(found, [(code, message, [found.group_name] if is_launch else instances.running(found))])

    def nodegroup_deleted(self, cluster: str, nodegroup: str) -> None:
        """All nodes of a node group are gone."""
        found, gone = self._nodegroup(cluster, nodegroup)
        left = [*instances.running(gone), *instances.leaving(gone)]
        for instance_id in left:
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

    def instances_removed(self, cluster: str, nodegroup: str, instance_ids: list[str]) -> None:
        """Nodes have stopped: their instances end, their addresses are free."""
        found = self._state.clusters.get(cluster)
        if found is not None and nodegroup in found.nodegroups:
            group = found.nodegroups[nodegroup]
            instances.deregister(group, instance_ids)
            if found.cni_removed or limits.leave_interfaces:
                joined = [each for each in instance_ids if each in self._state.node_numbers]
                instances.leave_interfaces(found, group, joined)
            instances.terminate(group, instance_ids)
            group.outdated = [each for each in group.outdated if each not in instance_ids]
            for instance_id in instance_ids:
                group.noticed.pop(instance_id, None)
            self._note_failures(group)
        for instance_id in instance_ids:
            self._state.node_numbers.pop(instance_id, None)

    def interruption_noticed(self, cluster: str, nodegroup: str, instance_id: str, seconds: float) -> None:
        """EC2 gives notice that it takes an instance back in `seconds`."""
        _, found = self._nodegroup(cluster, nodegroup)
        found.noticed[instance_id] = self._cloud.now().timestamp() + seconds

    def updates_done(self, cluster: str) -> None:
        """All updates under way have taken effect."""
        for update in self._state.clusters[cluster].updates.values():
            if update["status"] == "InProgress":
                update["status"] = "Successful"

    def update_failed(self, cluster: str, nodegroup: str) -> None:
        """No machine can be had for the first new node of an update: the node group stays as it was."""
        found, group = self._nodegroup(cluster, nodegroup)
        group.outdated = []
        group.data["status"] = "ACTIVE"
        message = "Couldn't proceed with upgrade process as new nodes are not joining node group"
        error = {
            "errorCode": "NodeCreationFailure",
            "errorMessage": f"{message} {nodegroup}",
            "resourceIds": [group.group_name],
        }
        for update in found.updates.values():
            if update["status"] == "InProgress":
                update.update(status="Failed", errors=[error])


def _degrade(nodegroup: Nodegroup, issues: list[tuple[str, str, list[str]]]) -> None:
    """Say what is wrong with a node group; a new one has failed, another one is degraded."""
    data = nodegroup.data
    if data["status"] == "CREATING":
        data["status"] = "CREATE_FAILED"
    elif data["status"] in {"ACTIVE", "UPDATING"}:
        data["status"] = "DEGRADED"
    data["health"] = {
        "issues": [{"code": code, "message": message, "resourceIds": ids} for code, message, ids in issues]
    }


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
        # Bottlerocket's image has the device plugin, Amazon Linux's has not.
        "device_plugin": "builtin" if data["amiType"].startswith("BOTTLEROCKET") else "pod",
        "network_policy": _enforces_policies(cluster),
        "region": nodegroup.region,
    }


def _enforces_policies(cluster: Cluster) -> bool:
    """Say whether the VPC CNI enforces network policies, which it does only when it is told to."""
    values = yaml.safe_load(cluster.addons.get("vpc-cni", {}).get("configurationValues") or "{}")
    return str(values.get("enableNetworkPolicy", "false")).lower() == "true"


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
