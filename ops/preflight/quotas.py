"""AWS's Service Quotas: what the stack needs of each, beside what runs in the account already."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.settings import PROJECT
from infra.settings.eks_nodes import GpuNodeSettings
from ops.preflight.findings import Check, Finding, no, unknown, yes

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Settings
    from infra.settings.eks_nodes import NodeSettings
    from ops.graph.record import Graph
    from ops.preflight.aws import Account

_STANDARD = "A, C, D, H, I, M, R, T, Z"


@dataclass(frozen=True)
class Quota:
    """A quota of Service Quotas.

    Attributes:
        service: as Service Quotas names it.
        code: its code.
        name: what it limits, in a few words.
    """

    service: str
    code: str
    name: str


# By the beginning of the instance type, the longest first: on demand, and spot.
# Source: EC2 user guide, "Amazon EC2 instance type quotas".
_VCPUS = (
    (r"p5", Quota("ec2", "L-417A185B", "on-demand P"), Quota("ec2", "L-C4BD4855", "spot P5")),
    (r"p", Quota("ec2", "L-417A185B", "on-demand P"), Quota("ec2", "L-7212CCBC", "spot P4, P3 and P2")),
    (r"g|vt", Quota("ec2", "L-DB2E81BA", "on-demand G and VT"), Quota("ec2", "L-3819A6DF", "spot G and VT")),
    (
        r"[acdhimrtz]\d",
        Quota("ec2", "L-1216C47A", f"on-demand {_STANDARD}"),
        Quota("ec2", "L-34B43A08", f"spot {_STANDARD}"),
    ),
)
_RUNNING = {"Name": "instance-state-name", "Values": ["pending", "running"]}
_VPCS = Quota("vpc", "L-F678F1CE", "VPCs per Region")
_ADDRESSES = Quota("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs")


def checks(settings: Settings, account: Account, graph: Graph) -> list[Check]:
    """Return a question for each quota that the stack's machines and network count against."""
    found = []

    def add(what: str, question: Callable[[], Finding]) -> None:
        found.append(Check("AWS", f"quota of {what}", lambda: account.ask(question)))

    for quota, groups in _groups(settings).items():
        add(f"{quota.name} vCPUs", _vcpus(settings, account, quota, groups))
    for type_, quota, count in (
        ("aws:ec2/vpc:Vpc", _VPCS, _vpcs),
        ("aws:ec2/eip:Eip", _ADDRESSES, _addresses),
    ):
        wanted = sum(item.type == type_ for item in graph)
        if wanted:
            add(quota.name, _counted(settings, account, quota, wanted, count))
    return found


def quota_of(instance_type: str, *, spot: bool) -> Quota | None:
    """Return the quota of virtual CPUs that an instance counts against; None for other families."""
    for beginning, on_demand, of_spot in _VCPUS:
        if re.match(beginning, instance_type):
            return of_spot if spot else on_demand
    return None


def _groups(settings: Settings) -> dict[Quota, list[NodeSettings]]:
    """Return the node groups by their quota; a capacity block is paid for, and counts against none."""
    eks = settings.require_eks()
    found: defaultdict[Quota, list[NodeSettings]] = defaultdict(list)
    for group in (eks.system_nodes, *eks.gpu_node_groups.values()):
        capacity = group.capacity_type if isinstance(group, GpuNodeSettings) else "ON_DEMAND"
        quota = quota_of(group.instance_types[0], spot=capacity == "SPOT")
        if capacity != "CAPACITY_BLOCK" and quota is not None:
            found[quota].append(group)
    return found


def _vcpus(
    settings: Settings, account: Account, quota: Quota, groups: list[NodeSettings]
) -> Callable[[], Finding]:
    def question() -> Finding:
        running = [
            instance
            for reservation in account.items("ec2", "describe_instances", "Reservations", Filters=[_RUNNING])
            for instance in reservation["Instances"]
            if quota_of(instance["InstanceType"], spot=instance.get("InstanceLifecycle") == "spot") == quota
            and not _ours(settings, instance)
        ]
        types = {name for group in groups for name in group.instance_types}
        vcpus = _sizes(account, types | {instance["InstanceType"] for instance in running})
        if missing := sorted(types - set(vcpus)):
            return unknown(f"{account.region} has no {', '.join(missing)}", "see AWS: instance types")
        # Any type of a group may come: the largest.
        largest = [max(vcpus[name] for name in group.instance_types) for group in groups]
        at_once = sum(size * group.desired for size, group in zip(largest, groups, strict=True))
        most = sum(size * group.max for size, group in zip(largest, groups, strict=True))
        used = sum(vcpus[instance["InstanceType"]] for instance in running)
        value = _value(account, quota)
        seen = (
            f"{value:g} vCPUs ({quota.code}), {used} used by others; the stack needs {at_once} at once,"
            f" {most} at its groups' max"
        )
        return _compared(account, quota, value, used + most, seen)

    return question


def _sizes(account: Account, types: set[str]) -> dict[str, int]:
    """Return the virtual CPUs of instance types, but for those that the region does not have."""
    found = account.items(
        "ec2",
        "describe_instance_types",
        "InstanceTypes",
        Filters=[{"Name": "instance-type", "Values": sorted(types)}],
    )
    return {item["InstanceType"]: int(item["VCpuInfo"]["DefaultVCpus"]) for item in found}


def _value(account: Account, quota: Quota) -> float:
    answer = account.client("service-quotas").get_service_quota(
        ServiceCode=quota.service, QuotaCode=quota.code
    )
    return float(answer["Quota"]["Value"])


def _compared(account: Account, quota: Quota, value: float, needed: float, seen: str) -> Finding:
    if needed <= value:
        return yes(seen)
    return no(
        seen,
        "aws service-quotas request-service-quota-increase"
        f" --service-code {quota.service} --quota-code {quota.code} --desired-value {needed:g}"
        f" --region {account.region}",
    )


def _ours(settings: Settings, thing: dict[str, Any]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}
    return (tags.get("project"), tags.get("stack")) == (PROJECT, settings.stack)


def _counted(
    settings: Settings,
    account: Account,
    quota: Quota,
    wanted: int,
    there: Callable[[Account], list[dict[str, Any]]],
) -> Callable[[], Finding]:
    def question() -> Finding:
        used = sum(not _ours(settings, thing) for thing in there(account))
        value = _value(account, quota)
        seen = f"{value:g} ({quota.code}), {used} used by others; the stack needs {wanted}"
        return _compared(account, quota, value, used + wanted, seen)

    return question


def _vpcs(account: Account) -> list[dict[str, Any]]:
    return account.items("ec2", "describe_vpcs", "Vpcs")


def _addresses(account: Account) -> list[dict[str, Any]]:
    return account.items("ec2", "describe_addresses", "Addresses")
