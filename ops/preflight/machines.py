"""Whether the region has the stack's machines, their images and its version of Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.eks.nodes import GPU_AMI_TYPES, SYSTEM_AMI_TYPE
from infra.eks.vpc import ZONES_WITHOUT_CONTROL_PLANE
from infra.settings.eks_nodes import GpuNodeSettings
from ops.preflight.aws import code_of
from ops.preflight.findings import Check, Finding, no, unknown, yes

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import EksSettings, Settings
    from infra.settings.eks_nodes import NodeSettings
    from ops.preflight.aws import Account

_SYSTEM = "system_nodes"
_ORDINARY = [
    {"Name": "state", "Values": ["available"]},
    {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
]
# Where AWS keeps the ids of its machine images.
# Sources: EKS user guide, "Retrieve recommended Amazon Linux AMI IDs" and "Bottlerocket AMI IDs"; what a
# release is called there: karpenter-provider-aws, pkg/providers/amifamily.
_AL2023 = "/aws/service/eks/optimized-ami/{version}/amazon-linux-2023/x86_64/{variant}/{release}/image_id"
_AL2023_RELEASE = "amazon-eks-node-al2023-x86_64-{variant}-{version}-v{date}"
_BOTTLEROCKET = "/aws/service/bottlerocket/aws-k8s-{version}-nvidia/x86_64/{release}/image_id"
_BLOCKS = "buy or find one: https://console.aws.amazon.com/ec2/home#CapacityReservations:"
_RELEASES = {
    True: "https://github.com/bottlerocket-os/bottlerocket/releases",
    False: "https://github.com/awslabs/amazon-eks-ami/releases",
}


def checks(settings: Settings, account: Account) -> list[Check]:
    """Return the questions about the cluster's machines and version."""
    eks = settings.require_eks()
    found = []

    def add(name: str, question: Callable[[], Finding]) -> None:
        found.append(Check("AWS", name, lambda: account.ask(question)))

    add("Kubernetes version", lambda: _version(account, eks.kubernetes_version))
    groups: dict[str, NodeSettings] = {_SYSTEM: eks.system_nodes}
    groups |= {f"gpu_node_groups.{name}": group for name, group in eks.gpu_node_groups.items()}
    for name, group in groups.items():
        add(f"{name}: instance types", _offerings(settings, account, name, group))
        add(f"{name}: machine image", _image(account, eks, name, group))
        if isinstance(group, GpuNodeSettings) and group.capacity_reservation_id is not None:
            add(f"{name}: capacity block", _block(account, group, group.capacity_reservation_id))
    return found


def zones(account: Account, eks: EksSettings) -> list[str]:
    """Return the zones that the stack's machines would stand in, in the order of their subnets."""
    existing = eks.network.existing
    if existing is not None:
        subnets = account.items(
            "ec2", "describe_subnets", "Subnets", SubnetIds=list(existing.node_subnet_ids)
        )
        by_id = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in subnets}
        return [by_id[id_] for id_ in existing.node_subnet_ids]
    found = account.items("ec2", "describe_availability_zones", "AvailabilityZones", Filters=_ORDINARY)
    names = sorted(zone["ZoneName"] for zone in found if zone["ZoneId"] not in ZONES_WITHOUT_CONTROL_PLANE)
    return names[: eks.network.zones]


def _version(account: Account, wanted: str) -> Finding:
    found = account.items(
        "eks", "describe_cluster_versions", "clusterVersions", versionStatus="STANDARD_SUPPORT"
    )
    ends = {item["clusterVersion"]: item.get("endOfStandardSupportDate") for item in found}
    if wanted not in ends:
        return no(
            f"{wanted} is not in standard support in {account.region}",
            f"set berth:eks.kubernetes_version to one of {', '.join(sorted(ends))}",
        )
    end = ends[wanted]
    return yes(f"{wanted} is in standard support" + (f" until {end:%Y-%m-%d}" if end else ""))


def _offerings(settings: Settings, account: Account, name: str, group: NodeSettings) -> Callable[[], Finding]:
    eks = settings.require_eks()

    def question() -> Finding:
        standing = zones(account, eks)
        if len(standing) < eks.network.zones and eks.network.existing is None:
            return no(
                f"{account.region} has {len(standing)} zones for a cluster: {', '.join(standing)}",
                f"berth:eks.network.zones in {settings.file}: as many as there are, or another region",
            )
        index = group.zone_index if isinstance(group, GpuNodeSettings) else None
        wanted = standing if index is None else [standing[index]]
        offers = account.items(
            "ec2",
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": list(group.instance_types)}],
        )
        where = {
            type_: sorted(offer["Location"] for offer in offers if offer["InstanceType"] == type_)
            for type_ in group.instance_types
        }
        seen = "; ".join(
            f"{type_} in {', '.join(zone for zone in wanted if zone in found) or 'none of them'}"
            for type_, found in where.items()
        )
        seen = f"of {', '.join(wanted)}: {seen}"
        # Auto Scaling tries the other zones where one does not have the type.
        if any(zone in found for found in where.values() for zone in wanted):
            return yes(seen)
        elsewhere = sorted({zone for found in where.values() for zone in found})
        return no(
            f"{seen}; in the region it is in {', '.join(elsewhere) or 'no zone'}",
            f"name another type in berth:eks.{name}.instance_types in {settings.file}, or another region:"
            " aws ec2 describe-instance-type-offerings --location-type availability-zone"
            f" --filters Name=instance-type,Values={','.join(group.instance_types)} --region REGION",
        )

    return question


def image_parameter(version: str, ami_type: str, release: str | None) -> str:
    """Return the name of the SSM parameter that has the id of a machine image.

    Args:
        version: of Kubernetes.
        ami_type: as EKS names the kind of image.
        release: as a stack file names it; None for the newest.
    """
    if ami_type.startswith("BOTTLEROCKET"):
        return _BOTTLEROCKET.format(version=version, release=release or "latest")
    variant = ami_type.removeprefix("AL2023_x86_64_").lower()
    if release is None:
        return _AL2023.format(version=version, variant=variant, release="recommended")
    named = _AL2023_RELEASE.format(variant=variant, version=version, date=release.rpartition("-")[2])
    return _AL2023.format(version=version, variant=variant, release=named)


def _image(account: Account, eks: EksSettings, name: str, group: NodeSettings) -> Callable[[], Finding]:
    gpu = isinstance(group, GpuNodeSettings)
    ami_type = (
        GPU_AMI_TYPES[group.operating_system] if isinstance(group, GpuNodeSettings) else SYSTEM_AMI_TYPE
    )
    parameter = image_parameter(eks.kubernetes_version, ami_type, group.release_version)
    release = group.release_version or "the newest"

    def question() -> Finding:
        try:
            id_: str = account.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
        except ClientError as error:
            if code_of(error) != "ParameterNotFound":
                raise
            bottlerocket = gpu and ami_type.startswith("BOTTLEROCKET")
            return no(
                f"{account.region} has no {ami_type} {release} of Kubernetes {eks.kubernetes_version}:"
                f" there is no SSM parameter {parameter}",
                f"set berth:eks.{name}.release_version to one of {_RELEASES[bottlerocket]}",
            )
        return yes(f"{ami_type} {release}: {id_}")

    return question


def _block(account: Account, group: GpuNodeSettings, id_: str) -> Callable[[], Finding]:
    def question() -> Finding:
        try:
            [block] = account.items(
                "ec2", "describe_capacity_reservations", "CapacityReservations", CapacityReservationIds=[id_]
            )
        except ClientError as error:
            if code_of(error) != "InvalidCapacityReservationId.NotFound":
                raise
            return no(f"{account.region} has no capacity reservation {id_} of this account", _BLOCKS)
        return judged(block, group)

    return question


def judged(block: dict[str, Any], group: GpuNodeSettings) -> Finding:
    """Return whether a capacity block serves a node group.

    Args:
        block: as EC2 describes it.
        group: the node group's settings.
    """
    state, type_ = block["State"], block["InstanceType"]
    free = block["AvailableInstanceCount"]
    ends = f" until {block['EndDate']:%Y-%m-%d %H:%M} UTC" if block.get("EndDate") else ""
    seen = (
        f"{block['CapacityReservationId']} is {state}, {free} of {block['TotalInstanceCount']} {type_} free"
        f" in {block['AvailabilityZone']}{ends}"
    )
    if type_ != group.instance_types[0]:
        return no(seen, f"name the block's type, {type_}, in instance_types")
    if state in ("scheduled", "payment-pending"):
        return unknown(seen, "its machines can be had when it begins", askable=group.desired > 0)
    if state != "active" or free < group.desired:
        return no(seen, _BLOCKS)
    return yes(seen)
