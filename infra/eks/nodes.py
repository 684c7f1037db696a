"""The cluster's machines: a few without GPUs for the cluster itself, and those with GPUs for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.eks import iam
from infra.gpus import INSTANCE_GPUS
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.eks.cluster import Cluster
    from infra.eks.network import Network
    from infra.naming import Names
    from infra.settings import EksSettings, GpuNodeSettings, SystemNodeSettings

GPU_TAINT_KEY = "nvidia.com/gpu"
GPU_LABEL = {"nvidia.com/gpu.present": "true"}
"""What a pod that needs a GPU selects."""

_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
)
# The most that gp3 reads in a second, and the fewest operations that allow it: image and weights are read
# from the disk at every start.
_FAST_DISK = {"throughput": 1000, "iops": 4000}
_MINUTES = 40
_NODE_GROUP_NAME_LENGTH = 63


class Nodes(pulumi.ComponentResource):
    """The two node groups, with one role.

    Bottlerocket on all of them: its NVIDIA variant brings the driver, the container toolkit and the device
    plugin, so that the GPUs are there without anything installed into the cluster.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        cluster: the cluster.
        network: where the machines stand.
        addons: what must be there before the first of them and go after the last: the CNI.
        opts: must give an AWS provider.
    """

    system: aws.eks.NodeGroup
    gpu: aws.eks.NodeGroup

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        cluster: Cluster,
        network: Network,
        addons: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Nodes", name, None, opts)
        self._name, self._names, self._cluster, self._network = name, names, cluster, network
        self._version = settings.kubernetes_version
        self._role, attachments = iam.role(
            self,
            f"{name}-role",
            names=names,
            what="node",
            service="ec2.amazonaws.com",
            policies=list(_POLICIES),
        )
        # A machine that goes still calls AWS: its rights, its way out and its CNI go after it.
        self._after = [*attachments, *network.routes, *addons]
        self.system = self._group(
            "system", settings.system_nodes, ami_type="BOTTLEROCKET_x86_64", capacity_type="ON_DEMAND"
        )
        gpus = settings.gpu_nodes
        self.gpu = self._group(
            "gpu",
            gpus,
            ami_type="BOTTLEROCKET_x86_64_NVIDIA",
            capacity_type=gpus.capacity_type,
            labels={
                **GPU_LABEL,
                # The Cluster Autoscaler reads the kind of GPU here.
                "k8s.amazonaws.com/accelerator": INSTANCE_GPUS[gpus.instance_types[0]].model,
            },
            taints=[{"key": GPU_TAINT_KEY, "value": "present", "effect": "NO_SCHEDULE"}],
        )
        self.register_outputs({})

    def _group(
        self,
        what: str,
        settings: SystemNodeSettings | GpuNodeSettings,
        *,
        ami_type: str,
        capacity_type: str,
        labels: dict[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
    ) -> aws.eks.NodeGroup:
        template = self._template(what, settings.disk_gib)
        facts = [ami_type, capacity_type, list(settings.instance_types), self._network_kind]
        return aws.eks.NodeGroup(
            f"{self._name}-{what}",
            cluster_name=self._cluster.cluster.name,
            node_group_name=self._names.of_version(what, facts, _NODE_GROUP_NAME_LENGTH),
            node_role_arn=self._role.arn,
            # Left out, it would stay what it was when the group was made, however the cluster is upgraded.
            version=self._version,
            subnet_ids=[subnet.id for subnet in self._network.node_subnets],
            ami_type=ami_type,
            capacity_type=capacity_type,
            instance_types=list(settings.instance_types),
            scaling_config={
                "desired_size": settings.desired,
                "min_size": settings.min,
                "max_size": settings.max,
            },
            # The old machine goes first: a spare one with a GPU may not be had.
            update_config={"max_unavailable": 1, "update_strategy": "MINIMAL"},
            labels=labels,
            taints=taints,
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            opts=child(self, after=self._after, minutes=_MINUTES),
        )

    @property
    def _network_kind(self) -> str:
        return "private" if self._network.private_subnets else "public"

    def _template(self, what: str, disk_gib: int) -> aws.ec2.LaunchTemplate:
        # Without an image id: EKS then finds the machine image of the cluster's version itself.
        return aws.ec2.LaunchTemplate(
            f"{self._name}-{what}-template",
            name=self._names.of(what),
            update_default_version=True,
            block_device_mappings=[
                {
                    "device_name": "/dev/xvdb",  # Bottlerocket itself, which is read only, is on /dev/xvda
                    "ebs": {
                        "volume_type": "gp3",
                        "volume_size": disk_gib,
                        **(_FAST_DISK if what == "gpu" else {}),
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                },
            ],
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
        )
