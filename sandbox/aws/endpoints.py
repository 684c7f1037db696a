"""Interface endpoints of a VPC as EC2 has them: their interfaces, their private names, their slow coming and
going.

What is refused: https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.vpcs import VPCs

from sandbox.aws import determinism
from sandbox.aws.cloud import ACCOUNT_ID, Cloud
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before, replace
from sandbox.aws.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NEXT = {"pending": "available", "deleting": "deleted"}


@before(VPCs, "create_vpc_endpoint")
def _can_be_made(request: Any) -> None:
    ec2 = request.ec2_backend
    name = request._get_param("ServiceName")  # noqa: SLF001  # moto's way to the parameters
    vpc = ec2.get_vpc(request._get_param("VpcId"))  # noqa: SLF001
    kind = request._get_param("VpcEndpointType") or "Gateway"  # noqa: SLF001
    offered = _offered_types(ec2, name, request.region)
    if not offered:
        raise AwsError("InvalidServiceName", f"The Vpc Endpoint Service '{name}' does not exist")
    if kind not in offered:
        raise AwsError(
            "InvalidParameter",
            f"Endpoint type ({kind}) does not match available service types "
            f"([{', '.join(sorted(offered))}]).",
        )
    if kind != "Interface":
        return
    if request._get_param("RouteTableIds"):  # noqa: SLF001
        raise AwsError(
            "InvalidParameter", "Route table IDs are not supported for Interface type VPC Endpoints."
        )
    _check_subnets(ec2, vpc, request._get_param("SubnetIds", []))  # noqa: SLF001
    _check_groups(ec2, vpc, request._get_param("SecurityGroupIds", []))  # noqa: SLF001
    if vpc is not None and request._get_bool_param("PrivateDnsEnabled", if_none=True):  # noqa: SLF001
        _check_private_dns(ec2, vpc, name)


def _offered_types(ec2: Any, name: str, region: str) -> set[str]:
    # moto makes the list on first use, with random ids: those must not shift the ids that come after.
    with determinism.seeded(f"endpoint services of {region}"):
        services = ec2._collect_default_endpoint_services(ACCOUNT_ID, region)  # noqa: SLF001
    return {
        kind["ServiceType"]
        for service in services
        if service["ServiceName"] == name
        for kind in service["ServiceType"]
    }


def _check_subnets(ec2: Any, vpc: Any, subnet_ids: list[str]) -> None:
    zones: set[str] = set()
    for subnet_id in subnet_ids:
        subnet = ec2.get_subnet(subnet_id)
        if subnet.vpc_id != vpc.id:
            raise AwsError(
                "InvalidParameter", f"The subnet ID '{subnet_id}' does not belong to the VPC '{vpc.id}'"
            )
        if subnet.availability_zone in zones:
            raise AwsError(
                "DuplicateSubnetsInSameZone",
                f"Found another VPC endpoint subnet in the availability zone of {subnet_id}. VPC endpoint "
                "subnets should be in different availability zones supported by the VPC endpoint service.",
            )
        zones.add(subnet.availability_zone)


def _check_groups(ec2: Any, vpc: Any, group_ids: list[str]) -> None:
    for group_id in group_ids:
        group = ec2.get_security_group_from_id(group_id)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != vpc.id:
            raise AwsError(
                "InvalidParameter",
                f"Security group {group_id} and VPC {vpc.id} belong to different networks.",
            )


def _check_private_dns(ec2: Any, vpc: Any, service: str) -> None:
    if not (_enabled(vpc.enable_dns_support) and _enabled(vpc.enable_dns_hostnames)):
        raise AwsError(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set "
            f"to true for {vpc.id}",
        )
    for other in ec2.vpc_end_points.values():
        if (other.vpc_id, other.service_name, other.private_dns_enabled) == (vpc.id, service, True):
            domain = _private_domain(service)
            raise AwsError(
                "InvalidParameter",
                "private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
                f"{domain} in the VPC {vpc.id}",
            )


def _enabled(attribute: Any) -> bool:
    return str(attribute).lower() == "true"


def _private_domain(service: str) -> str:
    """Return the name that a service is reached by, as `api.ecr.us-east-1.amazonaws.com`."""
    _, _, region, *names = service.split(".")
    return ".".join([*reversed(names), region, "amazonaws.com"])


@after(VPCBackend, "create_vpc_endpoint")
def _comes_slowly(ec2: Any, endpoint: Any, *_args: Any, **_kwargs: Any) -> None:
    endpoint.vpc_endpoint_type = endpoint.vpc_endpoint_type or "Gateway"
    if endpoint.vpc_endpoint_type != "Interface":
        endpoint.private_dns_enabled = False
        return
    endpoint.state = "pending"
    if not endpoint.security_group_ids:
        endpoint.security_group_ids = [ec2.get_default_security_group(endpoint.vpc_id).id]
    for interface_id in endpoint.network_interface_ids:  # moto gives them addresses of any network
        ec2.enis.pop(interface_id)
    endpoint.network_interface_ids = [_add_interface(ec2, endpoint, each) for each in endpoint.subnet_ids]


def _add_interface(ec2: Any, endpoint: Any, subnet_id: str) -> str:
    interface = ec2.create_network_interface(
        ec2.get_subnet(subnet_id),
        None,
        group_ids=endpoint.security_group_ids,
        description=f"VPC Endpoint Interface {endpoint.id}",
    )
    interface.status = "in-use"
    interface.interface_type = "vpc_endpoint"
    interface.requester_managed = True
    return str(interface.id)


@before(VPCs, "modify_vpc_endpoint")
def _can_be_changed(request: Any) -> None:
    ec2 = request.ec2_backend
    endpoint = ec2.get_vpc_end_point(request._get_param("VpcEndpointId"))  # noqa: SLF001
    if endpoint.state != "available":
        raise AwsError(
            "IncorrectState",
            f"The VPC endpoint {endpoint.id} is not in the state 'available': {endpoint.state}",
        )
    vpc = ec2.get_vpc(endpoint.vpc_id)
    removed = request._get_param("RemoveSubnetIds", [])  # noqa: SLF001
    kept = [each for each in endpoint.subnet_ids or [] if each not in removed]
    _check_subnets(ec2, vpc, [*kept, *request._get_param("AddSubnetIds", [])])  # noqa: SLF001
    _check_groups(ec2, vpc, request._get_param("AddSecurityGroupIds", []))  # noqa: SLF001
    wanted = request._get_bool_param("PrivateDnsEnabled")  # noqa: SLF001
    if wanted is None or endpoint.vpc_endpoint_type != "Interface":
        return
    if wanted and not endpoint.private_dns_enabled:
        _check_private_dns(ec2, vpc, endpoint.service_name)
    endpoint.private_dns_enabled = wanted


@after(VPCBackend, "modify_vpc_endpoint")
def _interfaces_follow(ec2: Any, _: Any, vpc_id: str, *_args: Any, **_kwargs: Any) -> None:
    endpoint = ec2.get_vpc_end_point(vpc_id)  # what moto calls vpc_id is the endpoint's
    if endpoint.vpc_endpoint_type != "Interface":
        return
    groups = [ec2.get_security_group_from_id(each) for each in endpoint.security_group_ids]
    present = {ec2.enis[each].subnet.id: each for each in endpoint.network_interface_ids}
    for subnet_id, interface_id in present.items():
        if subnet_id not in endpoint.subnet_ids:
            del ec2.enis[interface_id]
        else:
            ec2.enis[interface_id]._group_set = groups  # noqa: SLF001  # moto has no other way to it
    endpoint.network_interface_ids = [
        present.get(each) or _add_interface(ec2, endpoint, each) for each in endpoint.subnet_ids
    ]


def _go_slowly(ec2: Any, vpce_ids: list[str] | None = None) -> None:
    for endpoint_id in vpce_ids or []:
        endpoint = ec2.vpc_end_points.get(endpoint_id)
        if endpoint is not None and endpoint.vpc_endpoint_type == "Interface":
            endpoint.state = "deleting"
        elif endpoint is not None:
            _delete(ec2, [endpoint_id])
            del ec2.vpc_end_points[endpoint_id]


_delete: Any = VPCBackend.delete_vpc_endpoints
replace(VPCBackend, "delete_vpc_endpoints", _go_slowly)


def settle_endpoints(cloud: Cloud) -> None:
    """Let the account's interface endpoints reach their next state."""
    Settling(cloud, "ec2.vpc-endpoint-moved", _unsettled, _move)


def _unsettled() -> Iterator[tuple[str, str, str]]:
    for region, ec2 in list(ec2_backends[ACCOUNT_ID].items()):
        for endpoint in ec2.vpc_end_points.values():
            if endpoint.state in _NEXT:
                yield region, endpoint.id, endpoint.state


def _move(region: str, resource_id: str, state: str) -> None:
    ec2 = ec2_backends[ACCOUNT_ID][region]
    endpoint = ec2.vpc_end_points.get(resource_id)
    if endpoint is None or endpoint.state != state:
        return
    endpoint.state = _NEXT[state]
    if endpoint.state == "deleted":
        _remove_interfaces(ec2, endpoint.network_interface_ids)
        del ec2.vpc_end_points[resource_id]


def _remove_interfaces(ec2: Any, interface_ids: Iterable[str]) -> None:
    for interface_id in interface_ids:
        ec2.enis.pop(interface_id, None)
