"""The cluster's machines: a few without GPUs for the cluster itself, and groups with GPUs for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra.eks import iam, user_data
from infra.gpus import INSTANCE_GPUS
from infra.options import child
from infra.settings.eks_nodes import GpuNodeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.eks.cluster import Cluster
    from infra.eks.network import Network
    from infra.naming import Names
    from infra.settings import EksSettings, SystemNodeSettings
    from infra.settings.eks_nodes import OperatingSystem

GPU_TAINT_KEY = "nvidia.com/gpu"
GPU_LABEL = {"nvidia.com/gpu.present": "true"}
"""What a pod that needs a GPU selects."""
SYSTEM_GROUP = "system"

# What pods need, they get by Pod Identity: the machine only joins the cluster and pulls images.
_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")
GPU_AMI_TYPES: Mapping[OperatingSystem, str] = {
    "AL2023": "AL2023_x86_64_NVIDIA",
    "BOTTLEROCKET": "BOTTLEROCKET_x86_64_NVIDIA",
}
SYSTEM_AMI_TYPE = "AL2023_x86_64_STANDARD"
_DISK_DEVICES: Mapping[OperatingSystem, str] = {
    "AL2023": "/dev/xvda",
    "BOTTLEROCKET": "/dev/xvdb",  # the system itself, which is read only, is on /dev/xvda
}
# The most MiB that gp3 moves in a second, and the fewest operations that allow it, in parts of 256 KiB: image
# and weights are read from the disk at every start.
_FAST_DISK = {"throughput": 1000, "iops": 4000}
_TAINT = {"key": GPU_TAINT_KEY, "value": "present", "effect": "NO_SCHEDULE"}
_MINUTES = 40
_NODE_GROUP_NAME_LENGTH = 63
_TEMPLATE_TAG = "k8s.io/cluster-autoscaler/node-template"


class Nodes(pulumi.ComponentResource):
    """A system node group and one or more GPU node groups, with one role.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        cluster: the cluster.
        network: where the machines stand.
        after: what must be there before the first machine and go after the last: the CNI and the sweep.
        opts: must give an AWS provider.
    """

    system: aws.eks.NodeGroup
    gpu: dict[str, aws.eks.NodeGroup]
    """By the names that the stack file gives them."""
    gpu_autoscaling_groups: dict[str, pulumi.Output[str]]
    """The names of the groups' Auto Scaling groups, by the same names."""
    autoscaling: list[pulumi.Resource]
    """What tells the autoscaler of machines that are not there; empty where there is no autoscaler."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        cluster: Cluster,
        network: Network,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Nodes", name, None, opts)
        self._name, self._names, self._settings = name, names, settings
        self._cluster, self._network = cluster, network
        self._role, attachments = iam.role(
            self,
            f"{name}-role",
            names=names,
            what="node",
            service="ec2.amazonaws.com",
            policies=list(_POLICIES),
        )
        # A machine that goes still calls AWS: its rights, its way out and its CNI go after it.
        self._after = [*attachments, *network.routes, *after]
        self.system = self._group(
            SYSTEM_GROUP,
            settings.system_nodes,
            ami_type=SYSTEM_AMI_TYPE,
            template=self._template(SYSTEM_GROUP, _disk("AL2023", settings.system_nodes.disk_gib)),
            labels=system_label(names),
        )
        self.gpu, self.gpu_autoscaling_groups, self.autoscaling = {}, {}, []
        for group, wanted in settings.gpu_node_groups.items():
            self.gpu[group] = self._gpu_group(f"gpu-{group}", wanted)
            self.gpu_autoscaling_groups[group] = self.gpu[group].resources.apply(_autoscaling_group)
            if settings.cluster_autoscaler:
                self._describe(group, wanted)
        self.register_outputs({})

    def _gpu_group(self, what: str, settings: GpuNodeSettings) -> aws.eks.NodeGroup:
        system = settings.operating_system
        data = user_data.al2023 if system == "AL2023" else user_data.bottlerocket
        arguments: dict[str, Any] = {"user_data": data(instance_store=_uses_instance_store(settings))}
        if settings.capacity_type == "CAPACITY_BLOCK":
            # EKS takes all of it from the launch template: the node group itself may not name the type.
            arguments["instance_type"] = settings.instance_types[0]
            arguments["instance_market_options"] = {"market_type": "capacity-block"}
            arguments["capacity_reservation_specification"] = {
                "capacity_reservation_target": {"capacity_reservation_id": settings.capacity_reservation_id}
            }
        return self._group(
            what,
            settings,
            ami_type=GPU_AMI_TYPES[system],
            template=self._template(what, _disk(system, settings.disk_gib, **_FAST_DISK), **arguments),
            labels=gpu_labels(self._names, settings),
            taints=[_TAINT],
        )

    def _group(
        self,
        what: str,
        settings: SystemNodeSettings | GpuNodeSettings,
        *,
        ami_type: str,
        template: aws.ec2.LaunchTemplate,
        labels: Mapping[str, str],
        taints: list[dict[str, str]] | None = None,
    ) -> aws.eks.NodeGroup:
        subnets, zone = list(self._network.node_subnet_ids), None
        capacity_type, warm_pool = "ON_DEMAND", None
        if isinstance(settings, GpuNodeSettings):
            capacity_type, warm_pool, zone = settings.capacity_type, settings.warm_pool, settings.zone_index
        if zone is not None:
            subnets = [subnets[zone]]
        # What EKS cannot change in place: with any of it, the successor stands beside the old group first.
        facts = [ami_type, capacity_type, list(settings.instance_types), zone, self._place]
        return aws.eks.NodeGroup(
            f"{self._name}-{what}",
            cluster_name=self._cluster.name,
            node_group_name=self._names.of_version(what, facts, _NODE_GROUP_NAME_LENGTH),
            node_role_arn=self._role.arn,
            # Left out, it would stay what it was when the group was made, however the cluster is upgraded.
            version=self._cluster.version,
            release_version=settings.release_version,
            subnet_ids=subnets,
            ami_type=ami_type,
            capacity_type=capacity_type,
            instance_types=None if capacity_type == "CAPACITY_BLOCK" else list(settings.instance_types),
            scaling_config={
                "desired_size": settings.desired,
                "min_size": settings.min,
                "max_size": settings.max,
            },
            # The old machine goes first: a spare one with a GPU may not be had.
            update_config={"max_unavailable": 1, "update_strategy": "MINIMAL"},
            # By what the add-on eks-node-monitoring-agent sees: a GPU that failed costs ten minutes.
            node_repair_config={"enabled": True},
            warm_pool_config=None
            if warm_pool is None
            else {
                "min_size": warm_pool.min_size,
                "max_group_prepared_capacity": warm_pool.max_prepared,
                "pool_state": warm_pool.state,
                "reuse_on_scale_in": warm_pool.reuse_on_scale_in,
            },
            labels=labels,
            taints=taints,
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            opts=child(
                self,
                after=self._after,
                minutes=_MINUTES,
                # The autoscaler's number, where there is one: ours was for the start.
                ignore_changes=["scalingConfig.desiredSize"] if self._settings.cluster_autoscaler else (),
            ),
        )

    @property
    def _place(self) -> list[object]:
        """What decides in which subnets the machines stand: their ids are not known yet."""
        network = self._settings.network
        if network.existing is not None:
            return [network.vpc_identity, list(network.existing.node_subnet_ids)]
        return [network.vpc_identity, network.zones, "public" if network.nat == "none" else "private"]

    def _template(self, what: str, disk: dict[str, Any], **arguments: Any) -> aws.ec2.LaunchTemplate:
        # Without an image id: EKS then finds the machine image of the cluster's version itself.
        return aws.ec2.LaunchTemplate(
            f"{self._name}-{what}-template",
            name=self._names.of(what),
            update_default_version=True,
            block_device_mappings=[disk],
            # No pod can ask for the machine's own rights.
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
            },
            tag_specifications=[
                {"resource_type": kind, "tags": {**self._names.tags, "Name": self._names.of(what)}}
                for kind in ("instance", "volume", "network-interface")
            ],
            opts=child(self, delete_before_replace=True),
            **arguments,
        )

    def _describe(self, group: str, settings: GpuNodeSettings) -> None:
        """Tag the Auto Scaling group with what its machines would be, for the autoscaler that sees none.

        EKS itself sets the two tags by which the autoscaler finds the group. The others it does not: it
        copies no tags, labels or taints of a node group to the Auto Scaling group.
        """
        described = {
            **{f"label/{key}": value for key, value in gpu_labels(self._names, settings).items()},
            f"taint/{GPU_TAINT_KEY}": "present:NoSchedule",
            "resources/nvidia.com/gpu": str(_fewest_gpus(settings)),
            "resources/ephemeral-storage": f"{settings.disk_gib}Gi",
        }
        for index, (key, value) in enumerate(described.items()):
            self.autoscaling.append(
                aws.autoscaling.Tag(
                    f"{self._name}-gpu-{group}-{index}",
                    autoscaling_group_name=self.gpu_autoscaling_groups[group],
                    tag={"key": f"{_TEMPLATE_TAG}/{key}", "value": value, "propagate_at_launch": False},
                    opts=child(self),
                )
            )


def system_label(names: Names) -> dict[str, str]:
    """Return the label of the system machines."""
    return {f"{names.project}/nodes": SYSTEM_GROUP}


def operating_system_label(names: Names, system: OperatingSystem) -> dict[str, str]:
    """Return the label of GPU machines with this operating system."""
    return {f"{names.project}/operating-system": system.lower()}


def gpu_labels(names: Names, settings: GpuNodeSettings) -> dict[str, str]:
    """Return the labels of a group's machines."""
    return {
        **GPU_LABEL,
        # The Cluster Autoscaler reads the kind of GPU here: it waits for it to come up on a new machine.
        "k8s.amazonaws.com/accelerator": INSTANCE_GPUS[settings.instance_types[0]].model,
        **operating_system_label(names, settings.operating_system),
    }


def _disk(system: OperatingSystem, gib: int, **speed: int) -> dict[str, Any]:
    return {
        "device_name": _DISK_DEVICES[system],
        "ebs": {
            "volume_type": "gp3",
            "volume_size": gib,
            **speed,
            "encrypted": "true",
            "delete_on_termination": "true",
        },
    }


def _uses_instance_store(settings: GpuNodeSettings) -> bool:
    """Return whether every type of the group has disks of its own as large as the pods were promised."""
    return all(
        INSTANCE_GPUS[name].instance_store_gib >= settings.disk_gib for name in settings.instance_types
    )


def _fewest_gpus(settings: GpuNodeSettings) -> int:
    return min(INSTANCE_GPUS[name].count for name in settings.instance_types)


def _autoscaling_group(resources: Sequence[Any]) -> str:
    name: str = resources[0].autoscaling_groups[0].name
    return name
