"""The EC2 side of a node group: its launch template, Auto Scaling group and instances, all in moto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.utils import parse_user_data
from moto.elbv2.models import elbv2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.rules_autoscaling import TERMINATING, Managed, can_launch, manage, managed

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
    data["UserData"] = parse_user_data(data.get("UserData"))
    template = ec2_backends[ACCOUNT_ID][region].create_launch_template(
        f"eks-{mock_random.uuid4()}", "", data, {"launch-template": tags}
    )
    return str(template.id)


def update_template(nodegroup: Nodegroup, data: dict[str, Any]) -> None:
    """Give a node group's launch template a new version, and make that the one to launch from."""
    template = ec2_backends[ACCOUNT_ID][nodegroup.region].launch_templates[nodegroup.template_id]
    if not data.get("SecurityGroupIds") and not data.get("NetworkInterfaces"):
        data["SecurityGroupIds"] = template.default_version().data["SecurityGroupIds"]
    data["UserData"] = parse_user_data(data.get("UserData"))
    template.default_version_number = template.create_version(data, "").number
    if (how := managed(_group(nodegroup))) is not None:
        how.instance_types = tuple(_types(nodegroup))


def launch(cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Make the Auto Scaling group of a node group, with its instances; `failures` says what is missing."""
    data = nodegroup.data
    autoscaling = autoscaling_backends[ACCOUNT_ID][nodegroup.region]
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
    autoscaling.create_auto_scaling_group(
        name=nodegroup.group_name,
        availability_zones=[],
        desired_capacity=0,
        max_size=0,
        min_size=0,
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
    spot = data["capacityType"] == "SPOT"
    manage(_group(nodegroup), Managed(tuple(_types(nodegroup)), spot))
    data["resources"] = {"autoScalingGroups": [{"name": nodegroup.group_name}]}
    if warm := data.get("warmPoolConfig"):
        autoscaling.put_warm_pool(
            nodegroup.group_name,
            warm.get("maxGroupPreparedCapacity"),
            warm.get("minSize"),
            {"STOPPED": "Stopped", "RUNNING": "Running", "HIBERNATED": "Hibernated"}[
                warm.get("poolState", "STOPPED")
            ],
            {"ReuseOnScaleIn": warm.get("reuseOnScaleIn", False)},
        )
    scale(nodegroup)


def _types(nodegroup: Nodegroup) -> list[str]:
    """Return the instance types of a node group, in the order in which they are tried."""
    template = ec2_backends[ACCOUNT_ID][nodegroup.region].launch_templates[nodegroup.template_id]
    types: list[str] = nodegroup.data.get("instanceTypes") or [
        template.default_version().data["InstanceType"]
    ]
    return types


def _group(nodegroup: Nodegroup) -> Any:
    return autoscaling_backends[ACCOUNT_ID][nodegroup.region].autoscaling_groups.get(nodegroup.group_name)


def running(nodegroup: Nodegroup) -> list[str]:
    """Return the ids of a node group's instances that are to stay, in the order of their launch."""
    group = _group(nodegroup)
    states = group.active_instances() if group is not None else []
    return [state.instance.id for state in states if state.instance.state == "running"]


def leaving(nodegroup: Nodegroup) -> list[str]:
    """Return the ids of a node group's instances that wait to be drained before they end."""
    group = _group(nodegroup)
    states = group.instance_states if group is not None else []
    return [
        state.instance.id
        for state in states
        if state.lifecycle_state == TERMINATING and state.instance.state == "running"
    ]


def ended(nodegroup: Nodegroup) -> list[str]:
    """Return the ids of a node group's instances that EC2 has ended without Auto Scaling knowing yet."""
    group = _group(nodegroup)
    states = group.instance_states if group is not None else []
    return [state.instance.id for state in states if state.instance.state in {"terminated", "stopped"}]


def scaling(nodegroup: Nodegroup) -> dict[str, int]:
    """Return the sizes of a node group: those of its Auto Scaling group, which others change too."""
    group = _group(nodegroup)
    if group is None:
        sizes: dict[str, int] = nodegroup.data["scalingConfig"]
        return sizes
    return {"minSize": group.min_size, "maxSize": group.max_size, "desiredSize": group.desired_capacity}


def failures(nodegroup: Nodegroup) -> list[str]:
    """Return why instances of a node group could not be launched when it was last scaled."""
    how = managed(_group(nodegroup))
    return list(how.failures) if how is not None else []


def launchable(nodegroup: Nodegroup) -> bool:
    """Say whether one more instance could be launched now, in any of a node group's zones."""
    group = _group(nodegroup)
    return group is not None and can_launch(group)


def describe(nodegroup: Nodegroup, instance_id: str) -> Any:
    """Return moto's instance."""
    return ec2_backends[ACCOUNT_ID][nodegroup.region].get_instance(instance_id)


def zone(nodegroup: Nodegroup, instance_id: str) -> str:
    """Return the availability zone of an instance."""
    ec2: Any = ec2_backends[ACCOUNT_ID][nodegroup.region]
    return str(ec2.get_subnet(ec2.get_instance(instance_id).subnet_id).availability_zone)


def scale(nodegroup: Nodegroup) -> None:
    """Give the Auto Scaling group the node group's sizes: instances launch, or wait for their end."""
    group, sizes = _group(nodegroup), nodegroup.data["scalingConfig"]
    if group is None:
        return
    group.max_size, group.min_size = sizes["maxSize"], sizes["minSize"]
    group.set_desired_capacity(sizes["desiredSize"])


def grow(nodegroup: Nodegroup, count: int) -> None:
    """Let a node group desire `count` instances more, or fewer, than it does."""
    group = _group(nodegroup)
    wanted = group.desired_capacity + count
    group.max_size = max(wanted, nodegroup.data["scalingConfig"]["maxSize"])
    group.set_desired_capacity(wanted)


def let_go(nodegroup: Nodegroup, instance_id: str) -> None:
    """Let one instance wait to be drained; another takes its place when it has ended."""
    for state in _group(nodegroup).instance_states:
        if state.instance.id == instance_id:
            state.lifecycle_state = TERMINATING


def top_up(nodegroup: Nodegroup) -> None:
    """Launch what is missing to the desired size."""
    group = _group(nodegroup)
    gone = set(ended(nodegroup))
    group.instance_states = [state for state in group.instance_states if state.instance.id not in gone]
    group.set_desired_capacity(group.desired_capacity)


def deregister(nodegroup: Nodegroup, instance_ids: list[str]) -> None:
    """Take instances out of the target groups that the Auto Scaling group is attached to."""
    group = _group(nodegroup)
    elb = elbv2_backends[ACCOUNT_ID][nodegroup.region]
    for arn in group.target_group_arns if group else []:
        target_group = elb.target_groups.get(arn)
        present = [{"Id": each} for each in instance_ids if target_group and each in target_group.targets]
        if present:
            elb.deregister_targets(arn, present)


def terminate(nodegroup: Nodegroup, instance_ids: list[str]) -> None:
    """End instances; the Auto Scaling group launches others up to its desired size."""
    group = _group(nodegroup)
    if group is None:
        return
    present = {state.instance.id: state.instance for state in group.instance_states}
    living = [each for each in instance_ids if each in present and present[each].state == "running"]
    if living:
        ec2_backends[ACCOUNT_ID][nodegroup.region].terminate_instances(living)
    group.instance_states = [
        state for state in group.instance_states if state.instance.id not in instance_ids
    ]
    group.set_desired_capacity(group.desired_capacity)


def empty(nodegroup: Nodegroup) -> None:
    """Let all instances of a node group wait to be drained."""
    if (group := _group(nodegroup)) is not None:
        group.min_size = 0
        group.set_desired_capacity(0)


def delete(nodegroup: Nodegroup) -> None:
    """Delete the instances, the Auto Scaling group and the launch template of a node group."""
    terminate(nodegroup, [*running(nodegroup), *leaving(nodegroup)])
    autoscaling_backends[ACCOUNT_ID][nodegroup.region].autoscaling_groups.pop(nodegroup.group_name, None)
    ec2_backends[ACCOUNT_ID][nodegroup.region].delete_launch_template("", nodegroup.template_id)


def leave_interfaces(cluster: Cluster, nodegroup: Nodegroup, instance_ids: list[str]) -> None:
    """Leave behind what the VPC CNI leaves of a node when nobody clears up after it.

    The interface is in nobody's hands, holds its subnet and security groups, and can be deleted.
    https://github.com/aws/amazon-vpc-cni-k8s/blob/master/docs/troubleshooting.md
    """
    ec2: Any = ec2_backends[ACCOUNT_ID][nodegroup.region]
    for instance_id in instance_ids:
        instance = ec2.get_instance(instance_id)
        groups = [group.id for group in instance.nics[0].group_set] if instance.nics else []
        ec2.create_network_interface(
            ec2.get_subnet(instance.subnet_id),
            None,
            group_ids=groups or [cluster.data["resourcesVpcConfig"]["clusterSecurityGroupId"]],
            description=f"aws-K8S-{instance_id}",
            tags={
                "node.k8s.amazonaws.com/instance_id": instance_id,
                "cluster.k8s.amazonaws.com/name": cluster.name,
                "eks:eni:owner": "amazon-vpc-cni",
            },
        )


def role_can_join(role_arn: str) -> bool:
    """Say whether a role carries the policy without which a node cannot join a cluster."""
    for role in iam_backends[ACCOUNT_ID]["aws"].roles.values():
        if role.arn == role_arn:
            return bool({_WORKER_POLICY, _MINIMAL_POLICY} & set(role.managed_policies))
    return False
