"""Attachments of load balancers to Auto Scaling groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.plugins.aws.types import Context, Operation, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class Attachment(Type):
    """Makes the instances of a group targets of a target group."""

    pulumi_type = "aws:autoscaling/attachment:Attachment"
    service = "autoscaling"
    creates = Operation("attach_load_balancer_target_groups")
    reads = Operation(
        "describe_auto_scaling_groups", key="AutoScalingGroupNames", result="AutoScalingGroups[0]"
    )
    deletes = Operation("detach_load_balancer_target_groups", key="AutoScalingGroupName TargetGroupARNs")
    separator = "|"
    extra = frozenset({"lbTargetGroupArn"})

    def parameters(self, context: Context) -> dict[str, Any]:
        """The API takes several target groups."""
        return {**super().parameters(context), "TargetGroupARNs": [context.inputs["lbTargetGroupArn"]]}

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Make the id; attaching twice is attaching once."""
        del response
        return f"{context.inputs['autoscalingGroupName']}|{context.inputs['lbTargetGroupArn']}"

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the target group among the group's."""
        group, _, arn = id_.partition("|")
        found = super().read(context, group) or {}
        return {"AutoScalingGroupName": group} if arn in (found.get("TargetGroupARNs") or ()) else None

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add both ends."""
        del context, found
        group, _, arn = id_.partition("|")
        return {"autoscalingGroupName": group, "lbTargetGroupArn": arn}
