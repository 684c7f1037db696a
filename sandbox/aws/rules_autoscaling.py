"""Auto Scaling as AWS has it and moto does not: spread over zones, several instance types, launches that
fail, and instances that wait for EKS to drain them before they end.

Importing this module puts the rules in front of moto's operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import (
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
    TerminateInstanceActivity,
)
from moto.autoscaling.responses import AutoScalingResponse

from sandbox.aws.capacity import limits
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import before, replace

TERMINATING = "Terminating:Wait"


@dataclass
class Managed:
    """What EKS adds to the Auto Scaling group of a node group.

    Args:
        instance_types: what may be launched, the first one that is to be had.
        spot: whether they are spot instances.
        failures: why launches failed when the group was last scaled.
    """

    instance_types: tuple[str, ...]
    spot: bool
    failures: list[str] = field(default_factory=list)


def managed(group: Any) -> Managed | None:
    """Return what EKS adds to a group; None for a group that is not a node group's."""
    found: Managed | None = getattr(group, "sandbox_managed", None)
    return found


def manage(group: Any, how: Managed) -> None:
    """Make a group a node group's: its instances wait to be drained before they end."""
    group.sandbox_managed = how


@before(AutoScalingResponse, "delete_auto_scaling_group")
def _group_is_empty(request: Any) -> None:
    name = request._get_param("AutoScalingGroupName")  # noqa: SLF001
    group = request.autoscaling_backend.autoscaling_groups.get(name)
    forced = str(request._get_param("ForceDelete")).lower() == "true"  # noqa: SLF001
    if group is not None and group.instance_states and not forced:
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance "
            "request(s) still in the group.",
        )


def _named(request: Any, name: str) -> Any:
    group = request.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise AwsError("ValidationError", "AutoScalingGroup name not found - AutoScalingGroup not found")
    return group


@before(AutoScalingResponse, "set_desired_capacity")
def _capacity_is_in_bounds(request: Any) -> None:
    group = _named(request, request._get_param("AutoScalingGroupName"))  # noqa: SLF001
    wanted = int(request._get_param("DesiredCapacity"))  # noqa: SLF001
    if not group.min_size <= wanted <= group.max_size:
        side = "below min" if wanted < group.min_size else "above max"
        bound = group.min_size if wanted < group.min_size else group.max_size
        raise AwsError(
            "ValidationError",
            f"New SetDesiredCapacity value {wanted} is {side} value {bound} for the AutoScalingGroup.",
        )


@before(AutoScalingResponse, "create_or_update_tags")
@before(AutoScalingResponse, "delete_tags")
def _tagged_group_exists(request: Any) -> None:
    for tag in request._get_param("Tags", []):  # noqa: SLF001
        _named(request, tag["ResourceId"])


@before(AutoScalingResponse, "terminate_instance_in_auto_scaling_group")
def _instance_may_end(request: Any) -> None:
    instance_id = request._get_param("InstanceId")  # noqa: SLF001
    decrement = str(request._get_param("ShouldDecrementDesiredCapacity")).lower() == "true"  # noqa: SLF001
    for group in request.autoscaling_backend.autoscaling_groups.values():
        if any(state.instance.id == instance_id for state in group.active_instances()):
            if decrement and group.desired_capacity <= group.min_size:
                raise AwsError(
                    "ValidationError",
                    "Currently, desiredSize equals minSize "
                    f"({group.min_size}). Terminating instance without replacement will violate group's min "
                    "size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower "
                    "group's min size.",
                )
            return
    raise AwsError(
        "ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
    )


_terminate_instance: Any = AutoScalingBackend.terminate_instance


def _terminate(autoscaling: Any, instance_id: str, should_decrement: bool) -> Any:  # moto's
    """End an instance at once, or let a node group's wait to be drained; launch another in its place."""
    for group in autoscaling.autoscaling_groups.values():
        for state in group.active_instances():
            if state.instance.id == instance_id and managed(group):
                state.lifecycle_state = TERMINATING
                original = group.desired_capacity
                group.set_desired_capacity(original - 1 if should_decrement else original)
                return TerminateInstanceActivity(state.instance, original)
    return _terminate_instance(autoscaling, instance_id, should_decrement)


replace(AutoScalingBackend, "terminate_instance", _terminate)


def _launch(group: Any, count_needed: int, propagated_tags: dict[str, str]) -> None:
    """Launch instances as Auto Scaling does: from the right template version, spread over the subnets."""
    tags = {**propagated_tags, "aws:autoscaling:groupName": group.name, **group.instance_tags}
    how = managed(group)
    for _ in range(count_needed):
        failure = _launch_one(group, how, tags)
        if failure is not None and how is None:
            return
        if failure is not None and how is not None and failure not in how.failures:
            how.failures.append(failure)


def _launch_one(group: Any, how: Managed | None, tags: dict[str, str]) -> str | None:
    """Launch one instance in the zone that has the fewest; returns why that zone had none to give.

    Where a zone has none, another zone is tried, as Auto Scaling does.
    """
    subnets = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else [None]
    taken = [state.instance.subnet_id for state in group.active_instances()]
    first_failure = None
    for subnet_id in sorted(subnets, key=lambda each: (taken.count(each), subnets.index(each))):
        zone = (
            group.ec2_backend.get_subnet(subnet_id).availability_zone
            if subnet_id
            else group.availability_zones[0]
        )
        try:
            instance_type = _available_type(group, how, zone)
        except AwsError as error:
            kind = "Spot" if how is not None and how.spot else "On-Demand"
            first_failure = first_failure or (
                f"Could not launch {kind} Instances. {error.code} - {error.message.removesuffix('.')}. "
                "Launching EC2 instance failed."
            )
            continue
        _run(group, instance_type, zone, subnet_id, tags, spot=how is not None and how.spot)
        break
    return first_failure


def _available_type(group: Any, how: Managed | None, zone: str) -> str:
    """Return the first instance type of a group that can be had in a zone.

    Raises:
        AwsError: none can; the error is that of the last one.
    """
    types = how.instance_types if how is not None else (str(group.instance_type),)
    running = list(group.ec2_backend.all_instances())
    for number, instance_type in enumerate(types, 1):
        try:
            limits.check(running, instance_type, zone, spot=how is not None and how.spot)
        except AwsError:
            if number == len(types):
                raise
            continue
        return instance_type
    raise AwsError("ValidationError", "The Auto Scaling group has no instance type.")


def can_launch(group: Any) -> bool:
    """Say whether one more instance of a group could be launched now, in any of its zones."""
    for subnet_id in group.vpc_zone_identifier.split(","):
        zone = group.ec2_backend.get_subnet(subnet_id).availability_zone
        try:
            _available_type(group, managed(group), zone)
        except AwsError:
            continue
        return True
    return False


def _run(
    group: Any, instance_type: str, zone: str, subnet_id: str | None, tags: dict[str, str], *, spot: bool
) -> None:
    template = None
    if group.ec2_launch_template:
        template = {
            "LaunchTemplateId": group.ec2_launch_template.id,
            "Version": str(group.ec2_launch_template.get_version(group.launch_template_version).number),
        }
    reservation = group.ec2_backend.run_instances(
        group.image_id,
        1,
        group.user_data,
        group.security_groups,
        instance_type=instance_type,
        tags={"instance": tags},
        placement=zone,
        launch_config=group.launch_config,
        launch_template=template,
        is_instance_type_default=False,
        associate_public_ip=(
            group.launch_config.associate_public_ip_address if group.launch_config else None
        ),
        subnet_id=subnet_id,
    )
    for instance in reservation.instances:
        if spot:
            instance.lifecycle = "spot"
        instance.autoscaling_group = group
        group.instance_states.append(
            InstanceState(instance, protected_from_scale_in=group.new_instances_protected_from_scale_in)
        )


replace(FakeAutoScalingGroup, "replace_autoscaling_group_instances", _launch)


_set_desired_capacity = FakeAutoScalingGroup.set_desired_capacity


def _scale(group: Any, new_capacity: int | None) -> None:
    """Scale, and keep the instances in the order of their launch, which moto loses when it removes some.

    Instances of a node group that are too many are not ended here: they wait to be drained.
    """
    how = managed(group)
    if how is not None:
        how.failures.clear()
        wanted = group.min_size if new_capacity is None else new_capacity
        active = group.active_instances()
        for state in _surplus(active, len(active) - wanted):
            state.lifecycle_state = TERMINATING
    before_change = list(group.instance_states)
    _set_desired_capacity(group, new_capacity)
    kept = {id(state) for state in group.instance_states}
    known = {id(state) for state in before_change}
    group.instance_states = [
        *(state for state in before_change if id(state) in kept),
        *(state for state in group.instance_states if id(state) not in known),
    ]


def _surplus(active: list[Any], count: int) -> list[Any]:
    """Return the instances that go when a group shrinks: of the zone that has most, the oldest."""
    left, chosen = list(active), []
    for _ in range(max(0, count)):
        zones = [state.instance.placement.zone for state in left]
        going = max(left, key=lambda state: (zones.count(state.instance.placement.zone), -left.index(state)))
        left.remove(going)
        chosen.append(going)
    return chosen


replace(FakeAutoScalingGroup, "set_desired_capacity", _scale)

_update_target_groups: Any = AutoScalingBackend.update_attached_target_groups


def _register_active(autoscaling: Any, group_name: str) -> None:
    """Register a group's instances with its target groups, but for those that are about to end."""
    group = autoscaling.autoscaling_groups[group_name]
    every = group.instance_states
    group.instance_states = [state for state in every if state.lifecycle_state != TERMINATING]
    _update_target_groups(autoscaling, group_name)
    group.instance_states = every


replace(AutoScalingBackend, "update_attached_target_groups", _register_active)
