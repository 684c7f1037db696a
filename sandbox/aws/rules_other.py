"""What IAM and Elastic Load Balancing refuse and moto does not, and the interfaces that load balancers put
into their subnets.

Importing this module puts the rules in front of moto's operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.core.responses import BaseResponse
from moto.elbv2.models import ELBv2Backend
from moto.elbv2.responses import ELBV2Response
from moto.iam.models import IAMBackend

from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before, replace
from sandbox.aws.messages import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Iterable


@before(IAMBackend, "delete_policy")
def _policy_is_detached(iam: Any, policy_arn: str) -> None:
    policy = iam.managed_policies.get(policy_arn)
    if policy is not None and policy.attachment_count:
        raise AwsError("DeleteConflict", "Cannot delete a policy attached to entities.", 409)


@before(ELBV2Response, "create_load_balancer")
def _load_balancer_can_be_placed(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001
    elb = request.elbv2_backend
    ec2 = elb.ec2_backend
    name = params.get("Name") or ""
    if any(balancer.name == name for balancer in elb.load_balancers.values()):
        raise AwsError(
            "DuplicateLoadBalancerName",
            f"A load balancer with the same name '{name}' exists, but with different settings",
        )
    wanted = [
        *params.get("Subnets", []),
        *(mapping["SubnetId"] for mapping in params.get("SubnetMappings", [])),
    ]
    known = {subnet.id: subnet for subnet in ec2.describe_subnets()}
    missing = [subnet_id for subnet_id in wanted if subnet_id not in known]
    if missing:
        raise AwsError("SubnetNotFound", f"The subnet ID '{missing[0]}' does not exist")
    subnets = [known[subnet_id] for subnet_id in wanted]
    is_application = params.get("Type", "application") == "application"
    if subnets and is_application and len({subnet.availability_zone for subnet in subnets}) < 2:
        raise AwsError(
            "ValidationError", "At least two subnets in two different Availability Zones must be specified"
        )
    for group_id in params.get("SecurityGroups", []):
        if ec2.get_security_group_from_id(group_id) is None:
            raise AwsError("InvalidConfigurationRequest", "One or more security groups are invalid")
    attached = {gateway.vpc.id for gateway in ec2.internet_gateways.values() if gateway.vpc}
    if subnets and params.get("Scheme") != "internal" and subnets[0].vpc_id not in attached:
        raise AwsError("InvalidSubnet", f"VPC {subnets[0].vpc_id} has no internet gateway")


@after(ELBv2Backend, "create_load_balancer")
def _interfaces_come(elb: Any, balancer: Any, *_args: Any, **_kwargs: Any) -> None:
    _add_interfaces(elb, balancer, balancer.subnets)


def _add_interfaces(elb: Any, balancer: Any, subnets: Iterable[Any]) -> None:
    resource = balancer.arn.partition("loadbalancer/")[2]
    for subnet in subnets:
        interface = elb.ec2_backend.create_network_interface(
            subnet, None, group_ids=list(balancer.security_groups or []), description=f"ELB {resource}"
        )
        interface.status = "in-use"
        interface.requester_managed = True
        if balancer.scheme != "internal":
            interface.public_ip_auto_assign = "true"
            interface.check_auto_public_ip()


def _own_interfaces(elb: Any, arn: str) -> list[Any]:
    description = f"ELB {arn.partition('loadbalancer/')[2]}"
    return [each for each in elb.ec2_backend.enis.values() if each.description == description]


@before(ELBv2Backend, "delete_load_balancer")
def _interfaces_go(elb: Any, arn: str) -> None:
    balancer = elb.load_balancers.get(arn)
    if balancer is not None and balancer.attrs.get("deletion_protection.enabled") == "true":
        raise AwsError(
            "OperationNotPermitted",
            f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
        )
    for interface in _own_interfaces(elb, arn):
        del elb.ec2_backend.enis[interface.id]


@after(ELBv2Backend, "set_subnets")
def _interfaces_move(elb: Any, _: Any, arn: str, *_args: Any, **_kwargs: Any) -> None:
    balancer = elb.load_balancers[arn]
    present = {interface.subnet.id: interface for interface in _own_interfaces(elb, arn)}
    wanted = {subnet.id: subnet for subnet in balancer.subnets}
    for subnet_id in present.keys() - wanted.keys():
        del elb.ec2_backend.enis[present[subnet_id].id]
    _add_interfaces(elb, balancer, [subnet for key, subnet in wanted.items() if key not in present])


@after(ELBv2Backend, "set_security_groups")
def _interfaces_change_groups(elb: Any, _: Any, arn: str, sec_groups: list[str]) -> None:
    groups = [elb.ec2_backend.get_security_group_from_id(group_id) for group_id in sec_groups]
    for interface in _own_interfaces(elb, arn):
        interface._group_set = groups  # noqa: SLF001  # moto has no other way to it


@before(ELBV2Response, "create_listener")
def _groups_of_listener_are_free(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001
    _refuse_shared_groups(request.elbv2_backend, params["LoadBalancerArn"], params.get("DefaultActions", []))


@before(ELBV2Response, "modify_listener")
def _groups_of_changed_listener_are_free(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001
    _refuse_shared_groups(request.elbv2_backend, params["ListenerArn"], params.get("DefaultActions", []))


@before(ELBV2Response, "create_rule")
def _groups_of_rule_are_free(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001
    _refuse_shared_groups(request.elbv2_backend, params["ListenerArn"], params.get("Actions", []))


@before(ELBV2Response, "modify_rule")
def _groups_of_changed_rule_are_free(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001
    _refuse_shared_groups(request.elbv2_backend, params["RuleArn"], params.get("Actions", []))


def _refuse_shared_groups(elb: Any, arn: str, actions: list[dict[str, Any]]) -> None:
    """Refuse actions that forward to a target group which another load balancer forwards to.

    Args:
        elb: moto's backend.
        arn: of the load balancer, or of its listener or rule, whose ARNs begin like its own.
        actions: what is to be done with requests.

    Raises:
        AwsError: a target group belongs to another load balancer.
    """
    prefix, _, path = arn.rpartition(":")
    own = f"{prefix}:loadbalancer/{'/'.join(path.split('/')[1:4])}"
    taken = {
        group
        for balancer in elb.load_balancers.values()
        if balancer.arn != own
        for listener in balancer.listeners.values()
        for rule in listener.rules.values()
        for action in rule.actions
        for group in elb._get_target_group_arns_from(action.data)  # noqa: SLF001
    }
    wanted = [group for action in actions for group in elb._get_target_group_arns_from(action)]  # noqa: SLF001
    shared = [group for group in dict.fromkeys(wanted) if group in taken]
    if shared:
        raise AwsError(
            "TargetGroupAssociationLimit",
            "The following target groups cannot be associated with more than one load balancer: "
            f"{', '.join(shared)}",
        )


def _access_key(response: Any) -> str:
    """Return the access key of a request, of whatever form; moto knows only keys of 20 characters."""
    request = HttpRequest("GET", "/", tuple(response.headers.items()))
    return request.credential[0] if request.credential else "AKIAEXAMPLE"


replace(BaseResponse, "get_access_key", _access_key)
