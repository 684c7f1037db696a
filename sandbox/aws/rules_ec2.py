"""What EC2 refuses and moto does not: deleting what something else still needs.

Importing this module puts the rules in front of moto's operations. The checks stand at the operations that
users call, not at the functions below them, so that the sandbox itself may take apart what it made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.responses import EC2Response
from moto.ec2.responses.elastic_ip_addresses import ElasticIPAddresses
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.internet_gateways import InternetGateways
from moto.ec2.responses.nat_gateways import NatGateways
from moto.ec2.responses.route_tables import RouteTables
from moto.ec2.responses.security_groups import SecurityGroups
from moto.ec2.responses.subnets import Subnets
from moto.ec2.responses.vpcs import VPCs

from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before, replace

if TYPE_CHECKING:
    from collections.abc import Iterator


def _dependency(kind: str, resource_id: str) -> AwsError:
    return AwsError(
        "DependencyViolation", f"The {kind} '{resource_id}' has dependencies and cannot be deleted."
    )


def _interfaces(ec2: Any, *, subnet_id: str | None = None, vpc_id: str | None = None) -> Iterator[Any]:
    for interface in ec2.enis.values():
        if subnet_id in {None, interface.subnet.id} and vpc_id in {None, interface.subnet.vpc_id}:
            yield interface


@before(Subnets, "delete_subnet")
def _subnet_is_empty(request: Any) -> None:
    subnet_id = request._get_param("SubnetId")  # noqa: SLF001  # moto's way to the parameters
    if any(_interfaces(request.ec2_backend, subnet_id=subnet_id)):
        raise _dependency("subnet", subnet_id)


@after(SubnetBackend, "delete_subnet")
def _associations_go_with_subnet(ec2: Any, _: Any, subnet_id: str) -> None:
    for table in ec2.route_tables.values():
        gone = [key for key, target in table._associations.items() if target == subnet_id]  # noqa: SLF001
        for key in gone:
            del table._associations[key]  # noqa: SLF001
    for acl in ec2.network_acls.values():
        gone = [key for key, link in acl._associations.items() if link.subnet_id == subnet_id]  # noqa: SLF001
        for key in gone:
            del acl._associations[key]  # noqa: SLF001


@before(SecurityGroups, "delete_security_group")
def _security_group_is_unused(request: Any) -> None:
    ec2 = request.ec2_backend
    name_or_id = request._get_param("GroupId") or request._get_param("GroupName")  # noqa: SLF001
    group = ec2.get_security_group_by_name_or_id(name_or_id)
    if group is None:
        return
    if group.is_default:
        raise AwsError(
            "CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
        )
    in_use = any(group in interface.group_set for interface in ec2.enis.values())
    referenced = any(
        rule.source_group.get("GroupId") == group.id
        for groups in ec2.groups.values()
        for other in groups.values()
        if other.id != group.id
        for rule in (*other.ingress_rules, *other.egress_rules)
    )
    if in_use or referenced:
        raise AwsError("DependencyViolation", f"resource {group.id} has a dependent object")


@before(VPCs, "delete_vpc")
def _vpc_is_empty(request: Any) -> None:
    ec2 = request.ec2_backend
    vpc_id = request._get_param("VpcId")  # noqa: SLF001
    used = (
        any(subnet.vpc_id == vpc_id for subnet in ec2.describe_subnets())
        or any(gateway.vpc and gateway.vpc.id == vpc_id for gateway in ec2.internet_gateways.values())
        or any(not group.is_default for group in ec2.groups.get(vpc_id, {}).values())
        or any(endpoint.vpc_id == vpc_id and endpoint.state != "deleted" for endpoint in _endpoints(ec2))
        or any(gateway.vpc_id == vpc_id and gateway.state != "deleted" for gateway in _nat_gateways(ec2))
        or any(_interfaces(ec2, vpc_id=vpc_id))
    )
    if used:
        raise _dependency("vpc", vpc_id)


def _endpoints(ec2: Any) -> list[Any]:
    return list(ec2.vpc_end_points.values())


def _nat_gateways(ec2: Any) -> list[Any]:
    return list(ec2.nat_gateways.values())


@before(InternetGateways, "delete_internet_gateway")
def _internet_gateway_is_detached(request: Any) -> None:
    gateway_id = request._get_param("InternetGatewayId")  # noqa: SLF001
    gateway = request.ec2_backend.internet_gateways.get(gateway_id)
    if gateway is not None and gateway.vpc:
        raise _dependency("internetGateway", gateway_id)


@before(InternetGateways, "detach_internet_gateway")
def _nothing_is_mapped(request: Any) -> None:
    vpc_id = request._get_param("VpcId")  # noqa: SLF001
    if any(interface.public_ip for interface in _interfaces(request.ec2_backend, vpc_id=vpc_id)):
        raise AwsError(
            "DependencyViolation",
            f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) "
            "before detaching the gateway.",
        )


def _address(request: Any) -> Any:
    allocation = request._get_param("AllocationId")  # noqa: SLF001
    association = request._get_param("AssociationId")  # noqa: SLF001
    public_ip = request._get_param("PublicIp")  # noqa: SLF001
    for address in request.ec2_backend.addresses:
        if (
            (allocation and address.allocation_id == allocation)
            or (association and address.association_id == association)
            or (public_ip and address.public_ip == public_ip)
        ):
            return address
    return None


@before(ElasticIPAddresses, "release_address")
def _address_is_free(request: Any) -> None:
    address = _address(request)
    if address is not None and address.association_id:
        raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")


@before(ElasticIPAddresses, "disassociate_address")
def _address_is_not_managed(request: Any) -> None:
    address = _address(request)
    if address is not None and address.eni is not None and _owner_is_nat(request.ec2_backend, address.eni):
        raise AwsError("AuthFailure", "You do not have permission to access the specified resource.")


def _owner_is_nat(ec2: Any, interface: Any) -> bool:
    return any(gateway._eni is interface for gateway in _nat_gateways(ec2))  # noqa: SLF001


@before(NatGateways, "create_nat_gateway")
def _nat_gateway_has_what_it_needs(request: Any) -> None:
    ec2 = request.ec2_backend
    subnet = ec2.get_subnet(request._get_param("SubnetId"))  # noqa: SLF001
    if request._get_param("ConnectivityType") == "private":  # noqa: SLF001
        return
    if not request._get_param("AllocationId"):  # noqa: SLF001
        raise AwsError("MissingParameter", "The request must contain the parameter AllocationId")
    address = _address(request)
    if address is not None and address.association_id:
        raise AwsError(
            "Resource.AlreadyAssociated",
            f"Elastic IP address [{address.allocation_id}] is already associated",
        )
    if not _has_internet_gateway(ec2, subnet.vpc_id):
        raise AwsError("Gateway.NotAttached", f"Network {subnet.vpc_id} has no Internet gateway attached")


def _has_internet_gateway(ec2: Any, vpc_id: str) -> bool:
    return any(gateway.vpc and gateway.vpc.id == vpc_id for gateway in ec2.internet_gateways.values())


@before(NatGateways, "delete_nat_gateway")
def _nat_gateway_exists(request: Any) -> None:
    gateway_id = request._get_param("NatGatewayId")  # noqa: SLF001
    gateway = request.ec2_backend.nat_gateways.get(gateway_id)
    if gateway is None or gateway.state == "deleted":
        raise AwsError("NatGatewayNotFound", f"NatGateway {gateway_id} was not found")


@before(RouteTables, "delete_route_table")
def _route_table_is_unused(request: Any) -> None:
    table_id = request._get_param("RouteTableId")  # noqa: SLF001
    table = request.ec2_backend.route_tables.get(table_id)
    if table is not None and (table.main_association_id or table._associations):  # noqa: SLF001
        raise _dependency("routeTable", table_id)


@before(ElasticNetworkInterfaces, "delete_network_interface")
def _network_interface_is_detached(request: Any) -> None:
    interface_id = request._get_param("NetworkInterfaceId")  # noqa: SLF001
    interface = request.ec2_backend.enis.get(interface_id)
    if interface is None:
        return
    if interface.requester_managed:
        raise AwsError("AuthFailure", "You do not have permission to access the specified resource.")
    if interface.status == "in-use":
        raise AwsError("InvalidParameterValue", f"Network interface '{interface_id}' is currently in use.")


@after(Instance, "terminate")
def _interfaces_go_with_instance(instance: Any, _: Any) -> None:
    for index, interface in list(instance.nics.items()):
        if index == 0 or interface.delete_on_termination:
            instance.ec2_backend.enis.pop(interface.id, None)
        else:
            instance.detach_eni(interface)


def _capacity_reservations(request: Any) -> ActionResult:
    """Answer that there is none: nobody can buy a capacity block here."""
    for wanted in request._get_param("CapacityReservationIds") or ():  # noqa: SLF001
        raise AwsError(
            "InvalidCapacityReservationId.NotFound", f"The capacity reservation ID '{wanted}' does not exist"
        )
    return ActionResult({"CapacityReservations": []})


replace(EC2Response, "describe_capacity_reservations", _capacity_reservations)
