"""The provider's functions by their tokens; those of EC2 and EKS are next door."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sandbox.plugins.aws import invokes_ec2, invokes_eks
from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud


def _caller_identity(cloud: Cloud, arguments: Properties) -> Properties:
    del arguments
    identity = cloud.identity
    return {
        "id": identity["Account"],
        "accountId": identity["Account"],
        "arn": identity["Arn"],
        "userId": identity["UserId"],
    }


def _region(cloud: Cloud, arguments: Properties) -> Properties:
    region = arguments.get("region") or arguments.get("name") or cloud.region
    return {
        "id": region,
        "name": region,
        "region": region,
        "endpoint": f"ec2.{region}.{cloud.dns_suffix}",
        "description": region,
    }


def _availability_zones(cloud: Cloud, arguments: Properties) -> Properties:
    parameters: dict[str, Any] = {}
    if arguments.get("allAvailabilityZones"):
        parameters["AllAvailabilityZones"] = True
    filters = [{"Name": item["name"], "Values": item["values"]} for item in arguments.get("filters") or ()]
    if state := arguments.get("state"):
        filters.append({"Name": "state", "Values": [state]})
    if filters:
        parameters["Filters"] = filters
    zones = cloud.call("ec2", "describe_availability_zones", **parameters)["AvailabilityZones"]
    excluded = {*(arguments.get("excludeNames") or ()), *(arguments.get("excludeZoneIds") or ())}
    kept = [zone for zone in zones if not {zone["ZoneName"], zone.get("ZoneId")} & excluded]
    kept.sort(key=lambda zone: zone["ZoneName"])
    return {
        **arguments,
        "id": cloud.region,
        "region": cloud.region,
        "names": [zone["ZoneName"] for zone in kept],
        "zoneIds": [zone.get("ZoneId", "") for zone in kept],
        "groupNames": sorted({zone.get("GroupName") or cloud.region for zone in kept}),
    }


_ASSUMED: Final = re.compile(
    r"^arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>.+)/(?P<session>[^/]+)$"
)


def _session_context(cloud: Cloud, arguments: Properties) -> Properties:
    """Find the role behind an assumed-role session; any other ARN is its own issuer."""
    arn = arguments["arn"]
    match = _ASSUMED.match(arn)
    if match is None:
        return {
            "id": arn, "arn": arn, "issuerArn": arn, "issuerId": "", "issuerName": "", "sessionName": "",
        }  # fmt: skip
    name = match["role"].rpartition("/")[2]
    role = cloud.call("iam", "get_role", RoleName=name)["Role"]
    return {
        "id": arn,
        "arn": arn,
        "issuerArn": role["Arn"],
        "issuerId": role["RoleId"],
        "issuerName": name,
        "sessionName": match["session"],
    }


_FUNCTIONS: Final[dict[str, Callable[[Cloud, Properties], Properties]]] = {
    "aws:ec2/getSubnet:getSubnet": invokes_ec2.subnet,
    "aws:ec2/getVpc:getVpc": invokes_ec2.vpc,
    "aws:eks/getAddonVersion:getAddonVersion": invokes_eks.addon_version,
    "aws:eks/getClusterVersions:getClusterVersions": invokes_eks.cluster_versions,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller_identity,
    "aws:index/getRegion:getRegion": _region,
    "aws:iam/getSessionContext:getSessionContext": _session_context,
}


def call(cloud: Cloud, token: str, arguments: Properties) -> Properties:
    """Call a function by its token.

    Raises:
        PluginError: this plugin does not have it, or AWS refused.
    """
    function = _FUNCTIONS.get(token)
    if function is None:
        raise PluginError(
            f"the function {token} is not supported by this plugin; the official aws plugin has it"
        )
    return function(cloud, {key: value for key, value in arguments.items() if value is not None})
