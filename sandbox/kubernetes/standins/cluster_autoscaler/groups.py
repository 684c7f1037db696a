"""The node groups: Auto Scaling groups with certain tags, and what a new node of each is like."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox.kubernetes.node.devices import RESOURCE
from sandbox.kubernetes.node.quantities import parse
from sandbox.kubernetes.standins.cluster_autoscaler.simulator import NodeShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LOG = logging.getLogger(__name__)
_TEMPLATE = "k8s.io/cluster-autoscaler/node-template/"
_TAINT = re.compile(r"(.*):(NoSchedule|NoExecute|PreferNoSchedule)")
_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


class CloudError(RuntimeError):
    """AWS refused or did not answer; the message is AWS's."""


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group.

    Args:
        name: its name.
        minimum, maximum, desired: its sizes.
        instances: the ids of its instances.
        zones: its availability zones.
        tags: its tags.
        instance_type: what it launches.
    """

    name: str
    minimum: int
    maximum: int
    desired: int
    instances: frozenset[str]
    zones: tuple[str, ...]
    tags: Mapping[str, str]
    instance_type: str


class Cloud:
    """AWS as the pod's role sees it.

    Args:
        region: AWS's region.
    """

    def __init__(self, region: str) -> None:
        config = Config(user_agent="cluster-autoscaler", retries={"max_attempts": 3})
        session = boto3.Session(region_name=region)
        self._autoscaling = session.client("autoscaling", config=config)
        self._ec2 = session.client("ec2", config=config)
        self._eks = session.client("eks", config=config)
        self._types: dict[str, Mapping[str, Any]] = {}

    def groups(self, discoveries: Iterable[Mapping[str, str]]) -> list[Group]:
        """Return the groups that carry all tags of one of the discoveries.

        Raises:
            CloudError: AWS refused or did not answer.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for tags in discoveries:
            filters = [
                {"Name": f"tag:{name}", "Values": [value]} if value else {"Name": "tag-key", "Values": [name]}
                for name, value in tags.items()
            ]
            pages = _asked(
                lambda filters=filters: list(
                    self._autoscaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters)
                )
            )
            found.update(
                {each["AutoScalingGroupName"]: each for p in pages for each in p["AutoScalingGroups"]}
            )
        return [self._group(each) for _, each in sorted(found.items())]

    def _group(self, data: Mapping[str, Any]) -> Group:
        return Group(
            name=data["AutoScalingGroupName"],
            minimum=data["MinSize"],
            maximum=data["MaxSize"],
            desired=data["DesiredCapacity"],
            instances=frozenset(each["InstanceId"] for each in data.get("Instances") or ()),
            zones=tuple(data["AvailabilityZones"]),
            tags={tag["Key"]: tag["Value"] for tag in data.get("Tags") or ()},
            instance_type=self._instance_type(data),
        )

    def _instance_type(self, data: Mapping[str, Any]) -> str:
        """Return what a group launches, found where the original looks for it."""
        policy = (data.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
        for override in policy.get("Overrides") or ():
            if override.get("InstanceType"):
                return str(override["InstanceType"])
        template = data.get("LaunchTemplate") or policy.get("LaunchTemplateSpecification")
        if not template:
            raise CloudError(f"ASG {data['AutoScalingGroupName']} has no launch template")
        versions = _asked(
            lambda: self._ec2.describe_launch_template_versions(
                LaunchTemplateId=template["LaunchTemplateId"],
                Versions=[template.get("Version") or "$Default"],
            )["LaunchTemplateVersions"]
        )
        found = versions[0]["LaunchTemplateData"].get("InstanceType") if versions else None
        if not found:
            raise CloudError(
                f"the launch template of ASG {data['AutoScalingGroupName']} has no instance type"
            )
        return str(found)

    def template(self, group: Group) -> NodeShape:
        """Return what a new node of a group is like, for a group that has none to look at.

        Raises:
            CloudError: AWS does not know the instance type, or refused.
        """
        about = self._type(group.instance_type)
        resources = {
            "cpu": float(about["VCpuInfo"]["DefaultVCpus"]),
            "memory": float(about["MemoryInfo"]["SizeInMiB"]) * 2**20,
            "pods": 110.0,
            RESOURCE: float(
                sum(
                    gpu["Count"]
                    for gpu in (about.get("GpuInfo") or {}).get("Gpus") or ()
                    if gpu["Manufacturer"] == "NVIDIA"
                )
            ),
        }
        zone = group.zones[0] if group.zones else ""
        architecture = about["ProcessorInfo"]["SupportedArchitectures"][0]
        labels = {
            "kubernetes.io/arch": _ARCHITECTURES.get(architecture, architecture),
            "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": f"{group.name}-template",
            "node.kubernetes.io/instance-type": group.instance_type,
            "topology.kubernetes.io/region": zone[:-1],
            "topology.kubernetes.io/zone": zone,
        }
        taints: list[Mapping[str, str]] = []
        for key, value in group.tags.items():
            if key.startswith(f"{_TEMPLATE}label/"):
                labels[key.removeprefix(f"{_TEMPLATE}label/")] = value
            elif key.startswith(f"{_TEMPLATE}resources/"):
                resources[key.removeprefix(f"{_TEMPLATE}resources/")] = float(parse(value))
            elif key.startswith(f"{_TEMPLATE}taint/") and (match := _TAINT.fullmatch(value)):
                taints.append(
                    {
                        "key": key.removeprefix(f"{_TEMPLATE}taint/"),
                        "value": match[1],
                        "effect": match[2],
                    }
                )
        managed = self._managed(group)
        labels.update(managed.get("labels") or {})
        taints += [
            {"key": each["key"], "value": each.get("value", ""), "effect": _EFFECTS[each["effect"]]}
            for each in managed.get("taints") or ()
        ]
        return NodeShape(labels, tuple(taints), resources)

    def _managed(self, group: Group) -> Mapping[str, Any]:
        """Return the EKS node group that a group is of; without the right to ask, as if it were of none."""
        cluster, name = group.tags.get("eks:cluster-name"), group.tags.get("eks:nodegroup-name")
        if not cluster or not name:
            return {}
        try:
            found: Mapping[str, Any] = _asked(
                lambda: self._eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
            )
        except CloudError as error:
            _LOG.error(
                "Failed to get labels from EKS DescribeNodegroup API for nodegroup %s in cluster %s: %s",
                name,
                cluster,
                error,
            )
            return {}
        return found

    def _type(self, name: str) -> Mapping[str, Any]:
        if name not in self._types:
            found = _asked(lambda: self._ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"])
            if not found:
                raise CloudError(f"unknown EC2 instance type {name!r}")
            self._types[name] = found[0]
        return self._types[name]

    def set_size(self, group: Group, size: int) -> None:
        """Set how many instances a group is to have.

        Raises:
            CloudError: AWS refused or did not answer.
        """
        _LOG.info("Setting asg %s size to %d", group.name, size)
        _asked(
            lambda: self._autoscaling.set_desired_capacity(
                AutoScalingGroupName=group.name, DesiredCapacity=size, HonorCooldown=False
            )
        )

    def terminate(self, instance_id: str) -> None:
        """End an instance, and let its group be one smaller.

        Raises:
            CloudError: AWS refused or did not answer.
        """
        _asked(
            lambda: self._autoscaling.terminate_instance_in_auto_scaling_group(
                InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
            )
        )


def similar(first: NodeShape, second: NodeShape, ignored: Sequence[str]) -> bool:
    """Say whether the nodes of two groups are alike but for where they are and what they are called."""
    return first.resources == second.resources and all(
        first.labels.get(label) == second.labels.get(label)
        for label in {*first.labels, *second.labels}
        if not label.startswith(tuple(ignored))
    )


def _asked(request: Any) -> Any:
    try:
        return request()
    except (BotoCoreError, ClientError) as error:
        raise CloudError(str(error)) from error
