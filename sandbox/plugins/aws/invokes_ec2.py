"""Functions that look up networks that exist already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

# Names of EC2's filters by the functions' arguments.
_SUBNET_FILTERS: Final = {
    "availabilityZone": "availability-zone",
    "availabilityZoneId": "availability-zone-id",
    "cidrBlock": "cidr-block",
    "defaultForAz": "default-for-az",
    "ipv6CidrBlock": "ipv6-cidr-block-association.ipv6-cidr-block",
    "state": "state",
    "vpcId": "vpc-id",
}
_VPC_FILTERS: Final = {
    "cidrBlock": "cidr",
    "default": "is-default",
    "dhcpOptionsId": "dhcp-options-id",
    "state": "state",
}


def _the_one(cloud: Cloud, kind: str, names: Mapping[str, str], arguments: Properties) -> dict[str, Any]:
    """Return the one VPC or subnet that the arguments describe.

    Raises:
        PluginError: there is none, or more than one.
    """
    operation, items = f"describe_{kind.lower()}s", f"{kind}s"
    parameters: dict[str, Any] = {}
    if id_ := arguments.get("id"):
        parameters[f"{kind}Ids"] = [id_]
    filters = [
        {
            "Name": name,
            "Values": [str(arguments[key]).lower() if key.startswith("default") else arguments[key]],
        }
        for key, name in names.items()
        if arguments.get(key) is not None
    ]
    filters += [{"Name": item["name"], "Values": item["values"]} for item in arguments.get("filters") or ()]
    filters += [
        {"Name": f"tag:{key}", "Values": [value]} for key, value in (arguments.get("tags") or {}).items()
    ]
    if filters:
        parameters["Filters"] = filters
    label = f"EC2 {'VPC' if kind == 'Vpc' else kind}"
    try:
        found: list[dict[str, Any]] = cloud.call("ec2", operation, arguments.get("region"), **parameters)[
            items
        ]
    except CloudError as error:
        if not error.not_found:
            raise
        found = []
    if not found:
        raise PluginError(f"no matching {label} found")
    if len(found) > 1:
        raise PluginError(
            f"multiple {label}s matched; use additional constraints to reduce matches to a single {label}"
        )
    return found[0]


def subnet(cloud: Cloud, arguments: Properties) -> Properties:
    """Describe one subnet.

    Raises:
        PluginError: there is none, or more than one.
    """
    found = _the_one(cloud, "Subnet", _SUBNET_FILTERS, arguments)
    region = arguments.get("region") or cloud.region
    id_, owner = found["SubnetId"], found.get("OwnerId") or cloud.account
    ipv6 = (found.get("Ipv6CidrBlockAssociationSet") or [{}])[0]
    options = found.get("PrivateDnsNameOptionsOnLaunch") or {}
    return {
        "id": id_,
        "arn": found.get("SubnetArn") or cloud.arn("ec2", f"subnet/{id_}", region, owner),
        "assignIpv6AddressOnCreation": found.get("AssignIpv6AddressOnCreation", False),
        "availabilityZone": found["AvailabilityZone"],
        "availabilityZoneId": found.get("AvailabilityZoneId", ""),
        "availableIpAddressCount": found.get("AvailableIpAddressCount", 0),
        "cidrBlock": found["CidrBlock"],
        "customerOwnedIpv4Pool": found.get("CustomerOwnedIpv4Pool", ""),
        "defaultForAz": found.get("DefaultForAz", False),
        "enableDns64": found.get("EnableDns64", False),
        "enableLniAtDeviceIndex": found.get("EnableLniAtDeviceIndex", 0),
        "enableResourceNameDnsARecordOnLaunch": options.get("EnableResourceNameDnsARecord", False),
        "enableResourceNameDnsAaaaRecordOnLaunch": options.get("EnableResourceNameDnsAAAARecord", False),
        "filters": arguments.get("filters") or [],
        "ipv6CidrBlock": ipv6.get("Ipv6CidrBlock", ""),
        "ipv6CidrBlockAssociationId": ipv6.get("AssociationId", ""),
        "ipv6Native": found.get("Ipv6Native", False),
        "mapCustomerOwnedIpOnLaunch": found.get("MapCustomerOwnedIpOnLaunch", False),
        "mapPublicIpOnLaunch": found.get("MapPublicIpOnLaunch", False),
        "outpostArn": found.get("OutpostArn", ""),
        "ownerId": owner,
        "privateDnsHostnameTypeOnLaunch": options.get("HostnameType", ""),
        "region": region,
        "state": found.get("State", "available"),
        "tags": shapes.tag_map(found.get("Tags")),
        "vpcId": found["VpcId"],
    }


def vpc(cloud: Cloud, arguments: Properties) -> Properties:
    """Describe one VPC.

    Raises:
        PluginError: there is none, or more than one.
    """
    found = _the_one(cloud, "Vpc", _VPC_FILTERS, arguments)
    region = arguments.get("region") or cloud.region
    id_, owner = found["VpcId"], found.get("OwnerId") or cloud.account
    attributes = {}
    for name in ("enableDnsHostnames", "enableDnsSupport", "enableNetworkAddressUsageMetrics"):
        response = cloud.call("ec2", "describe_vpc_attribute", region, VpcId=id_, Attribute=name)
        attributes[name] = response.get(name[0].upper() + name[1:], {}).get("Value", False)
    main = [{"Name": "vpc-id", "Values": [id_]}, {"Name": "association.main", "Values": ["true"]}]
    tables = cloud.call("ec2", "describe_route_tables", region, Filters=main)["RouteTables"]
    ipv6 = [
        {
            "associationId": item.get("AssociationId", ""),
            "ipv6CidrBlock": item.get("Ipv6CidrBlock", ""),
            "ipv6Pool": item.get("Ipv6Pool", ""),
            "networkBorderGroup": item.get("NetworkBorderGroup", ""),
            "state": (item.get("Ipv6CidrBlockState") or {}).get("State", ""),
        }
        for item in found.get("Ipv6CidrBlockAssociationSet") or ()
    ]
    return {
        "id": id_,
        "arn": cloud.arn("ec2", f"vpc/{id_}", region, owner),
        **attributes,
        "cidrBlock": found["CidrBlock"],
        "cidrBlockAssociations": [
            {
                "associationId": item["AssociationId"],
                "cidrBlock": item["CidrBlock"],
                "state": item["CidrBlockState"]["State"],
            }
            for item in found.get("CidrBlockAssociationSet") or ()
        ],
        "default": found.get("IsDefault", False),
        "dhcpOptionsId": found.get("DhcpOptionsId", ""),
        "filters": arguments.get("filters") or [],
        "instanceTenancy": found.get("InstanceTenancy", "default"),
        "ipv6AssociationId": ipv6[0]["associationId"] if ipv6 else "",
        "ipv6CidrBlock": ipv6[0]["ipv6CidrBlock"] if ipv6 else "",
        "ipv6CidrBlockAssociations": ipv6,
        "mainRouteTableId": tables[0]["RouteTableId"] if tables else "",
        "ownerId": owner,
        "region": region,
        "state": found.get("State", "available"),
        "tags": shapes.tag_map(found.get("Tags")),
    }
