"""Tags of Auto Scaling groups, and attachments of load balancers to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.types import Context, Operation, Type
from sandbox.plugins.schema import truth

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


class Tag(Type):
    """A tag of a group that something else made, such as a node group; its id is the group and the key."""

    pulumi_type = "aws:autoscaling/tag:Tag"
    service = "autoscaling"
    creates = Operation("create_or_update_tags")
    reads = Operation("describe_tags")
    deletes = Operation("delete_tags")
    separator = ","
    extra = frozenset({"autoscalingGroupName", "tag"})
    exclusive = True
    in_place: ClassVar = {"tag.value": "put", "tag.propagateAtLaunch": "put"}

    def _place(self, id_: str) -> dict[str, str]:
        group, _, key = id_.partition(self.separator)
        return {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": key}

    def create(self, context: Context) -> str:
        """Set the tag; setting it twice is setting it once."""
        id_ = f"{context.inputs['autoscalingGroupName']},{context.inputs['tag']['key']}"
        self.put(context, id_)
        return id_

    def put(self, context: Context, id_: str) -> None:
        """Set the tag."""
        given = context.inputs["tag"]
        tag = {"Value": str(given["value"]), "PropagateAtLaunch": truth(given["propagateAtLaunch"])}
        context.call("autoscaling", "create_or_update_tags", Tags=[{**self._place(id_), **tag}])

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the key among the group's."""
        place = self._place(id_)
        filters = [
            {"Name": "auto-scaling-group", "Values": [place["ResourceId"]]},
            {"Name": "key", "Values": [place["Key"]]},
        ]
        found = context.call("autoscaling", "describe_tags", Filters=filters)["Tags"]
        return next((tag for tag in found if place.items() <= tag.items()), None)

    def delete(self, context: Context, id_: str) -> None:
        """Remove the tag."""
        if self.read(context, id_) is not None:
            context.call("autoscaling", "delete_tags", Tags=[self._place(id_)])

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The group and the tag are apart among the properties."""
        del context, id_
        tag = {"key": found["Key"], "value": found["Value"], "propagateAtLaunch": found["PropagateAtLaunch"]}
        return {"autoscalingGroupName": found["ResourceId"], "tag": tag}
