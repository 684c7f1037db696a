"""What EC2 has to give in this account: quotas of virtual CPUs, and machines that are not to be had.

Both can be set from outside (see `faults`); a launch that goes over them fails in AWS's words. Quotas and
their codes: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from sandbox.aws.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class VcpuQuota:
    """A quota of virtual CPUs that run at once.

    Args:
        code: its code in Service Quotas.
        name: its name there.
        families: how the instance types begin that it counts, and none before it does.
        spot: whether it counts spot instances; else all others.
        default: what this account has, in virtual CPUs.
    """

    code: str
    name: str
    families: tuple[str, ...]
    spot: bool
    default: float


_STANDARD = ("a", "c", "d", "h", "i", "m", "r", "t", "z")
_GRAPHICS = ("g", "vt")
QUOTAS = (
    VcpuQuota(
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        _STANDARD,
        spot=False,
        default=1152.0,
    ),
    VcpuQuota("L-DB2E81BA", "Running On-Demand G and VT instances", _GRAPHICS, spot=False, default=768.0),
    VcpuQuota("L-417A185B", "Running On-Demand P instances", ("p",), spot=False, default=768.0),
    VcpuQuota(
        "L-34B43A08",
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        _STANDARD,
        spot=True,
        default=1152.0,
    ),
    VcpuQuota("L-3819A6DF", "All G and VT Spot Instance Requests", _GRAPHICS, spot=True, default=768.0),
    VcpuQuota("L-C4BD4855", "All P5 Spot Instance Requests", ("p5",), spot=True, default=768.0),
    VcpuQuota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", ("p",), spot=True, default=768.0),
)
# These have quotas of their own, which no machine here counts against.
_OTHER_FAMILIES = {"dl", "f", "hpc", "inf", "mac", "trn", "u", "x"}
_ENDED = {"terminated", "shutting-down", "stopped"}


@dataclass
class Limits:
    """What was set from outside.

    Args:
        quotas: values by code, where they are not the default.
        no_capacity: pairs of an instance type and a zone (None: every zone) that EC2 has no machines of.
        leave_interfaces: whether every node that ends leaves a network interface behind.
    """

    quotas: dict[str, float] = field(default_factory=dict)
    no_capacity: set[tuple[str, str | None]] = field(default_factory=set)
    leave_interfaces: bool = False

    def value(self, quota: VcpuQuota) -> float:
        """Return a quota's value."""
        return self.quotas.get(quota.code, quota.default)

    def check(self, running: Iterable[Any], instance_type: str, zone: str, *, spot: bool) -> None:
        """Refuse to launch one more instance.

        Args:
            running: moto's instances of the region.
            instance_type: the new one's type.
            zone: the new one's availability zone.
            spot: whether it is a spot instance.

        Raises:
            AwsError: a quota is used up, or there is no such machine.
        """
        quota = _quota_of(instance_type, spot=spot)
        if quota is not None:
            used = sum(_vcpus(each.instance_type) for each in _counted(running, quota))
            if used + _vcpus(instance_type) > self.value(quota):
                raise _over_quota(self.value(quota), spot=spot)
        if self.no_capacity & {(instance_type, zone), (instance_type, None)}:
            raise _no_machine(instance_type, zone, spot=spot)


limits = Limits()


def _quota_of(instance_type: str, *, spot: bool) -> VcpuQuota | None:
    family = re.split(r"\d|-", instance_type, maxsplit=1)[0]
    if family in _OTHER_FAMILIES:
        return None
    return next(
        (each for each in QUOTAS if each.spot == spot and instance_type.startswith(each.families)), None
    )


def _vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES.get(instance_type, {}).get("VCpuInfo", {}).get("DefaultVCpus", 0))


def _counted(running: Iterable[Any], quota: VcpuQuota) -> Iterator[Any]:
    for instance in running:
        if (
            instance.state not in _ENDED
            and _quota_of(instance.instance_type, spot=instance.lifecycle == "spot") == quota
        ):
            yield instance


def _over_quota(value: float, *, spot: bool) -> AwsError:
    if spot:
        return AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    return AwsError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {value:g} allows for the "
        "instance bucket that the specified instance type belongs to. Please visit "
        "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )


def _no_machine(instance_type: str, zone: str, *, spot: bool) -> AwsError:
    if spot:
        return AwsError(
            "UnfulfillableCapacity",
            "Unable to fulfill capacity due to your request configuration. Please adjust your request and "
            "try again.",
        )
    return AwsError(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you "
        f"requested ({zone}). Our system will be working on provisioning additional capacity.",
        500,
    )
