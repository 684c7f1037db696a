"""The EC2 side of a node group: its launch template, Auto Scaling group and instances, all in moto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.elbv2.models import elbv2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random

from sandbox.aws.cloud import ACCOUNT_ID

if TYPE_CHECKING:
    from sandbox.aws.eks.state import Cluster, Nodegroup

_WORKER_POLICY = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"
_MINIMAL_POLICY = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy"


def gpu_count(instance_type: str) -> int:
    """Return how many NVIDIA GPUs an instance type has."""
    gpus = INSTANCE_TYPES[instance_type].get("GpuInfo", {}).get("Gpus", [])
    return sum(gpu["Count"] for gpu in gpus if gpu["Manufacturer"] == "NVIDIA")


def create_template(region: str, cluster: Cluster, nodegroup: dict[str, Any], data: dict[str, Any]) -> str:
    """Make the launch template of a node group; returns its id."""
    if not data.get("SecurityGroupIds") and not data.get("NetworkInterfaces"):
        data["SecurityGroupIds"] = [cluster.data["resourcesVpcConfig"]["clusterSecurityGroupId"]]
    tags = {"eks:cluster-name": cluster.name, "eks:nodegroup-name": nodegroup["nodegroupName"]}
    template = ec2_backends[ACCOUNT_ID][region].create_launch_template(
        f"eks-{mock_random.uuid4()}", "", data, {"launch-template": tags}
    )
    return str(template.id)


def update_template(nodegroup: Nodegroup, data: dict[str, Any]) -> None:
    """Give a node group's launch template a new version, and make that the one to launch from."""
    template = ec2_backends[ACCOUNT_ID][nodegroup.region].launch_templates[nodegroup.template_id]
    if not data.get("SecurityGroupIds") and not data.get("NetworkInterfaces"):
        data["SecurityGroupIds"] = template.default_version().data["SecurityGroupIds"]
    template.default_version_number = template.create_version(data, "").number


def launch(cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Make the Auto Scaling group of a node group, with its instances."""
    data = nodegroup.data
    scaling = data["scalingConfig"]
    tags = {
        "eks:cluster-name": cluster.name,
        "eks:nodegroup-name": data["nodegroupName"],
        f"kubernetes.io/cluster/{cluster.name}": "owned",
        f"k8s.io/cluster-autoscaler/{cluster.name}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
    }
    propagated: list[Any] = [
        {"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()
    ]
    nodegroup.group_name = f"eks-{data['nodegroupName']}-{mock_random.uuid4()}"
    autoscaling_backends[ACCOUNT_ID][nodegroup.region].create_auto_scaling_group(
        name=nodegroup.group_name,
        availability_zones=[],
        desired_capacity=scaling["desiredSize"],
        max_size=scaling["maxSize"],
        min_size=scaling["minSize"],
        launch_config_name="",
        launch_template={"LaunchTemplateId": nodegroup.template_id, "Version": "$Default"},
        vpc_zone_identifier=",".join(data["subnets"]),
        default_cooldown=None,
        health_check_period=15,
        health_check_type="EC2",
        load_balancers=[],
        target_group_arns=[],
        placement_group=None,
        termination_policies=["AllocationStrategy", "OldestLaunchTemplate", "OldestInstance"],
        tags=propagated,
        capacity_rebalance=True,
    )
    data["resources"] = {"autoScalingGroups": [{"name": nodegroup.group_name}]}


def _group(nodegroup: Nodegroup) -> Any:
    return autoscaling_backends[ACCOUNT_ID][nodegroup.region].autoscaling_groups.get(nodegroup.group_name)


def running(nodegroup: Nodegroup) -> list[str]:
    """Return the ids of a node group's instances, in the order of their launch."""
    group = _group(nodegroup)
    if group is None:
        return []
    return [state.instance.id for state in group.instance_states if state.instance.state == "running"]


def describe(nodegroup: Nodegroup, instance_id: str) -> Any:
    """Return moto's instance."""
    return ec2_backends[ACCOUNT_ID][nodegroup.region].get_instance(instance_id)


def zone(nodegroup: Nodegroup, instance_id: str) -> str:
    """Return the availability zone of an instance."""
    ec2: Any = ec2_backends[ACCOUNT_ID][nodegroup.region]
    return str(ec2.get_subnet(ec2.get_instance(instance_id).subnet_id).availability_zone)


def scale(nodegroup: Nodegroup) -> None:
    """Bring the Auto Scaling group up to the node group's desired size."""
    group, scaling = _group(nodegroup), nodegroup.data["scalingConfig"]
    group.max_size, group.min_size = scaling["maxSize"], scaling["minSize"]
    if scaling["desiredSize"] > len(group.instance_states):
        group.set_desired_capacity(scaling["desiredSize"])
    group.desired_capacity = scaling["desiredSize"]


def deregister(nodegroup: Nodegroup, instance_ids: list[str]) -> None:
    """Take instances out of the target groups that the Auto Scaling group is attached to."""
    group = _group(nodegroup)
    elb = elbv2_backends[ACCOUNT_ID][nodegroup.region]
    for arn in group.target_group_arns if group else []:
        target_group = elb.target_groups.get(arn)
        present = [{"Id": each} for each in instance_ids if target_group and each in target_group.targets]
        if present:
            elb.deregister_targets(arn, present)


def terminate(nodegroup: Nodegroup, instance_ids: list[str], *, replace: bool) -> None:
    """End instances.

    Args:
        nodegroup: their node group.
        instance_ids: which.
        replace: whether the group launches others in their place.
    """
    group = _group(nodegroup)
    present = [each for each in instance_ids if each in running(nodegroup)]
    if group is None or not present:
        return
    ec2_backends[ACCOUNT_ID][nodegroup.region].terminate_instances(present)
    group.instance_states = [state for state in group.instance_states if state.instance.id not in present]
    if not replace:
        group.desired_capacity = len(group.instance_states)
    group.set_desired_capacity(group.desired_capacity)


def delete(nodegroup: Nodegroup) -> None:
    """Delete the instances, the Auto Scaling group and the launch template of a node group."""
    terminate(nodegroup, running(nodegroup), replace=False)
    autoscaling_backends[ACCOUNT_ID][nodegroup.region].autoscaling_groups.pop(nodegroup.group_name, None)
    ec2_backends[ACCOUNT_ID][nodegroup.region].delete_launch_template("", nodegroup.template_id)


def role_can_join(role_arn: str) -> bool:
    """Say whether a role carries the policy without which a node cannot join a cluster."""
    for role in iam_backends[ACCOUNT_ID]["aws"].roles.values():
        if role.arn == role_arn:
            return bool({_WORKER_POLICY, _MINIMAL_POLICY} & set(role.managed_policies))
    return False
