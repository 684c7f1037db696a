"""What an object on AWS costs an hour, by its list price in us-east-1 without taxes and what it is used for.

From AWS's pricing pages of EKS, VPC, Elastic Load Balancing, EBS, WAF, KMS and CloudWatch, as of 2026; other
regions differ by some percent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOURS_A_MONTH = 730
_GIB_MONTH = {"gp3": 0.08, "gp2": 0.10, "io1": 0.125, "io2": 0.125, "st1": 0.045, "sc1": 0.015}
_PROVISIONED_IOPS_MONTH = 0.065
_GP3_IOPS_MONTH, _GP3_FREE_IOPS = 0.005, 3000
_GP3_MIB_MONTH, _GP3_FREE_MIB = 0.04, 125
_LOG_GB_MONTH = 0.03


def free(_: Mapping[str, Any]) -> float:
    """Return nothing: there is no charge for it."""
    return 0.0


def unknown(_: Mapping[str, Any]) -> None:
    """Return that its list says too little: the price depends on its type or on what is in it."""


def cluster(_: Mapping[str, Any]) -> float:
    """Return the price of a control plane whose version is in standard support."""
    return 0.10


def nat_gateway(_: Mapping[str, Any]) -> float:
    """Return the price of a NAT gateway; its address is an object of its own."""
    return 0.045


def load_balancer(_: Mapping[str, Any]) -> float:
    """Return the price of an application or network load balancer that nothing passes."""
    return 0.0225


def classic_load_balancer(_: Mapping[str, Any]) -> float:
    """Return the price of a load balancer of the first kind."""
    return 0.025


def elastic_ip(_: Mapping[str, Any]) -> float:
    """Return the price of a public IPv4 address, used or not."""
    return 0.005


def vpc_endpoint(item: Mapping[str, Any]) -> float:
    """Return the price of an interface endpoint, for each of its zones; gateways are free."""
    return 0.01 * len(item["subnets"] or ()) if item["type"] == "Interface" else 0.0


def volume(item: Mapping[str, Any]) -> float | None:
    """Return the price of a volume by its type, size and what of its speed is paid for."""
    kind = item["type"]
    if kind not in _GIB_MONTH:
        return None
    month: float = _GIB_MONTH[kind] * item["gib"]
    if kind == "gp3":
        month += _GP3_IOPS_MONTH * max(0, (item["iops"] or 0) - _GP3_FREE_IOPS)
        month += _GP3_MIB_MONTH * max(0, (item["throughput"] or 0) - _GP3_FREE_MIB)
    elif kind in ("io1", "io2"):
        month += _PROVISIONED_IOPS_MONTH * (item["iops"] or 0)
    return month / _HOURS_A_MONTH


def web_acl(_: Mapping[str, Any]) -> float:
    """Return the price of a web ACL; each of its rules costs a fifth of it more."""
    return 5 / _HOURS_A_MONTH


def log_group(item: Mapping[str, Any]) -> float:
    """Return the price of what a log group keeps."""
    return _LOG_GB_MONTH * (item["bytes"] or 0) / 10**9 / _HOURS_A_MONTH


def key(item: Mapping[str, Any]) -> float:
    """Return the price of a key; one that waits for its deletion is free."""
    return 0.0 if item["going"] else 1 / _HOURS_A_MONTH
