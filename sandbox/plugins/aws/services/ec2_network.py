"""VPCs, subnets, gateways, addresses and endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.services.ec2 import Ec2Type, first, refuse_failures
from sandbox.plugins.aws.types import Context, Operation, Status
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class Vpc(Ec2Type):
    """A VPC."""

    pulumi_type = "aws:ec2/vpc:Vpc"
    creates = Operation("create_vpc", result="Vpc.VpcId")
    reads = Operation("describe_vpcs", key="VpcIds", result="Vpcs[0]")
    deletes = Operation("delete_vpc", key="VpcId")
    listed_id = "Vpcs[].VpcId"
    resource_type = "vpc"
    status = Status("State", ready=frozenset({"available"}))
    in_place: ClassVar = {"enableDnsSupport": "set_dns", "enableDnsHostnames": "set_dns"}
    _ATTRIBUTES: ClassVar = {"enableDnsSupport": True, "enableDnsHostnames": False}

    def set_dns(self, context: Context, id_: str) -> None:
        """Set the attributes; hostnames need support, so support goes first."""
        for name, default in self._ATTRIBUTES.items():
            wanted = truth(context.inputs.get(name, default))
            member = name[0].upper() + name[1:]
            context.call("ec2", "modify_vpc_attribute", VpcId=id_, **{member: {"Value": wanted}})

    def after_create(self, context: Context, id_: str) -> None:
        """The create operation does not take the attributes."""
        if self._ATTRIBUTES.keys() & context.inputs.keys():
            self.set_dns(context, id_)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the attributes, and the ids of what AWS makes with a VPC."""
        result = super().computed(context, id_, found)
        for name in self._ATTRIBUTES:
            member = name[0].upper() + name[1:]
            response = context.call("ec2", "describe_vpc_attribute", VpcId=id_, Attribute=name)
            result[name] = response[member]["Value"]
        group = first(context, "describe_security_groups", "SecurityGroups", vpc_id=id_, group_name="default")
        main = {"vpc_id": id_, "association.main": "true"}
        table = first(context, "describe_route_tables", "RouteTables", **main)
        acl = first(context, "describe_network_acls", "NetworkAcls", vpc_id=id_, default="true")
        return {
            **result,
            "defaultSecurityGroupId": group.get("GroupId", ""),
            "defaultRouteTableId": table.get("RouteTableId", ""),
            "mainRouteTableId": table.get("RouteTableId", ""),
            "defaultNetworkAclId": acl.get("NetworkAclId", ""),
        }


class InternetGateway(Ec2Type):
    """An internet gateway, attached to its VPC."""

    pulumi_type = "aws:ec2/internetGateway:InternetGateway"
    creates = Operation("create_internet_gateway", result="InternetGateway.InternetGatewayId")
    reads = Operation("describe_internet_gateways", key="InternetGatewayIds", result="InternetGateways[0]")
    deletes = Operation("delete_internet_gateway", key="InternetGatewayId")
    listed_id = "InternetGateways[].InternetGatewayId"
    resource_type = "internet-gateway"
    in_place: ClassVar = {"vpcId": "attach"}

    def _attached(self, context: Context, id_: str) -> str | None:
        found = self.read(context, id_) or {}
        attachments = found.get("Attachments") or []
        return str(attachments[0]["VpcId"]) if attachments else None

    def attach(self, context: Context, id_: str) -> None:
        """Attach it to the wanted VPC and detach it from any other."""
        actual, wanted = self._attached(context, id_), context.inputs.get("vpcId")
        if actual and actual != wanted:
            context.call("ec2", "detach_internet_gateway", InternetGatewayId=id_, VpcId=actual)
        if wanted and actual != wanted:
            context.call("ec2", "attach_internet_gateway", InternetGatewayId=id_, VpcId=wanted)

    after_create = attach

    def before_delete(self, context: Context, id_: str) -> None:
        """AWS deletes only what is detached."""
        if vpc := self._attached(context, id_):
            context.call("ec2", "detach_internet_gateway", InternetGatewayId=id_, VpcId=vpc)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the VPC."""
        attachments = found.get("Attachments") or [{}]
        return {**super().computed(context, id_, found), "vpcId": attachments[0].get("VpcId", "")}


class Subnet(Ec2Type):
    """A subnet."""

    pulumi_type = "aws:ec2/subnet:Subnet"
    creates = Operation("create_subnet", result="Subnet.SubnetId")
    reads = Operation("describe_subnets", key="SubnetIds", result="Subnets[0]")
    deletes = Operation("delete_subnet", key="SubnetId")
    listed_id = "Subnets[].SubnetId"
    resource_type = "subnet"
    status = Status("State", ready=frozenset({"available"}))
    in_place: ClassVar = {"mapPublicIpOnLaunch": "set_public"}

    def set_public(self, context: Context, id_: str) -> None:
        """Say whether instances get public addresses."""
        wanted = truth(context.inputs.get("mapPublicIpOnLaunch", False))
        context.call("ec2", "modify_subnet_attribute", SubnetId=id_, MapPublicIpOnLaunch={"Value": wanted})

    def after_create(self, context: Context, id_: str) -> None:
        """The create operation does not take the attribute."""
        if "mapPublicIpOnLaunch" in context.inputs:
            self.set_public(context, id_)


class Eip(Ec2Type):
    """An elastic address."""

    pulumi_type = "aws:ec2/eip:Eip"
    creates = Operation("allocate_address", result="AllocationId")
    reads = Operation("describe_addresses", key="AllocationIds", result="Addresses[0]")
    deletes = Operation("release_address", key="AllocationId")
    listed_id = "Addresses[].AllocationId"
    resource_type = "elastic-ip"
    renames: ClassVar = {
        "instance": "InstanceId",
        "networkInterface": "NetworkInterfaceId",
        "privateIp": "PrivateIpAddress",
    }

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the DNS name, which is made of the address."""
        address = str(found.get("PublicIp", ""))
        zone = "compute-1" if context.region == "us-east-1" else f"{context.region}.compute"
        arn = context.cloud.arn("ec2", f"elastic-ip/{id_}", context.region)
        return {"arn": arn, "publicDns": f"ec2-{address.replace('.', '-')}.{zone}.amazonaws.com"}


class NatGateway(Ec2Type):
    """A NAT gateway."""

    pulumi_type = "aws:ec2/natGateway:NatGateway"
    creates = Operation("create_nat_gateway", result="NatGateway.NatGatewayId")
    reads = Operation("describe_nat_gateways", key="NatGatewayIds", result="NatGateways[0]")
    deletes = Operation("delete_nat_gateway", key="NatGatewayId")
    listed_id = "NatGateways[?State!='deleted' && State!='deleting'].NatGatewayId"
    filters_parameter = "Filter"
    resource_type = "natgateway"
    status = Status("State", frozenset({"available"}), frozenset({"failed"}), "FailureMessage")
    gone = frozenset({"deleted"})

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add what its address says."""
        del context, id_
        address = (found.get("NatGatewayAddresses") or [{}])[0]
        return {
            "allocationId": address.get("AllocationId", ""),
            "associationId": address.get("AssociationId", ""),
            "networkInterfaceId": address.get("NetworkInterfaceId", ""),
            "privateIp": address.get("PrivateIp", ""),
            "publicIp": address.get("PublicIp", ""),
        }


class VpcEndpoint(Ec2Type):
    """An endpoint of a service in a VPC."""

    pulumi_type = "aws:ec2/vpcEndpoint:VpcEndpoint"
    creates = Operation("create_vpc_endpoint", result="VpcEndpoint.VpcEndpointId")
    reads = Operation("describe_vpc_endpoints", key="VpcEndpointIds", result="VpcEndpoints[0]")
    deletes = Operation("delete_vpc_endpoints", key="VpcEndpointIds")
    listed_id = "VpcEndpoints[?State!='deleted' && State!='deleting'].VpcEndpointId"
    resource_type = "vpc-endpoint"
    status = Status(
        "State", frozenset({"available", "Available"}), frozenset({"failed", "rejected"}), "LastError.Message"
    )
    gone = frozenset({"deleted", "Deleted"})
    renames: ClassVar = {"policy": "PolicyDocument"}
    in_place: ClassVar = dict.fromkeys(
        (
            "routeTableIds",
            "subnetIds",
            "securityGroupIds",
            "policy",
            "privateDnsEnabled",
            "dnsOptions",
            "ipAddressType",
        ),
        "set_members",
    )

    def set_members(self, context: Context, id_: str) -> None:
        """Add and remove what the endpoint is joined to."""
        found = self.read(context, id_) or {}
        actual = {**self.outputs(context, id_, found)}
        changes: dict[str, Any] = {}
        for name in ("routeTableIds", "subnetIds", "securityGroupIds"):
            member = name[0].upper() + name[1:]
            wanted, present = set(context.inputs.get(name) or ()), set(actual.get(name) or ())
            changes[f"Add{member}"] = sorted(wanted - present)
            changes[f"Remove{member}"] = sorted(present - wanted)
        wanted_settings = self.parameters(context)
        for member in ("PolicyDocument", "PrivateDnsEnabled", "DnsOptions", "IpAddressType"):
            changes[member] = wanted_settings.get(member)
        given = {key: value for key, value in changes.items() if value not in ([], None)}
        context.call("ec2", "modify_vpc_endpoint", VpcEndpointId=id_, **given)

    def delete(self, context: Context, id_: str) -> None:
        """The operation takes several endpoints and fails for none."""
        refuse_failures(
            "DeleteVpcEndpoints", context.call("ec2", "delete_vpc_endpoints", VpcEndpointIds=[id_])
        )

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the groups' ids, and the prefix list of a gateway."""
        result = super().computed(context, id_, found)
        result["securityGroupIds"] = [group["GroupId"] for group in found.get("Groups") or ()]
        if found.get("VpcEndpointType") == "Gateway":
            filters = [{"Name": "prefix-list-name", "Values": [found["ServiceName"]]}]
            lists = context.call("ec2", "describe_prefix_lists", Filters=filters)["PrefixLists"]
            named = [item for item in lists if item.get("PrefixListName") == found["ServiceName"]]
            result["prefixListId"] = named[0]["PrefixListId"] if named else ""
            result["cidrBlocks"] = named[0].get("Cidrs", []) if named else []
        return result
