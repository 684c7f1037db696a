"""Log groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.types import Context, Operation, Type
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class LogGroup(Type):
    """A log group."""

    pulumi_type = "aws:cloudwatch/logGroup:LogGroup"
    service = "logs"
    creates = Operation("create_log_group")
    reads = Operation("describe_log_groups", key="logGroupNamePrefix")
    deletes = Operation("delete_log_group", key="logGroupName")
    renames: ClassVar = {"name": "logGroupName"}
    name_property = "name"
    name_limit = 512
    local = frozenset({"skipDestroy"})
    in_place: ClassVar = {"retentionInDays": "set_retention"}
    tags_of = Operation("list_tags_for_resource", key="resourceArn", result="tags")
    tagging = ("tag_resource", "untag_resource", "resourceArn")

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """A group goes by its name."""
        del response
        return str(context.inputs["name"])

    def set_retention(self, context: Context, id_: str) -> None:
        """Say for how many days events are kept; none or 0 is for ever."""
        days = int(context.inputs.get("retentionInDays") or 0)
        if days:
            context.call("logs", "put_retention_policy", logGroupName=id_, retentionInDays=days)
        else:
            context.call("logs", "delete_retention_policy", logGroupName=id_)

    def after_create(self, context: Context, id_: str) -> None:
        """The create operation does not take the retention."""
        if context.inputs.get("retentionInDays"):
            self.set_retention(context, id_)

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the group among those whose names begin like its own."""
        found = super().read(context, id_) or {}
        return next((group for group in found.get("logGroups") or () if group["logGroupName"] == id_), None)

    def delete(self, context: Context, id_: str) -> None:
        """Leave the group where that is asked for."""
        if not truth(context.inputs.get("skipDestroy", False)):
            super().delete(context, id_)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The official provider's ARN lacks the API's `:*` at the end."""
        del context
        arn = str(found.get("logGroupArn") or found.get("arn", "")).removesuffix(":*")
        return {"arn": arn, "name": id_, "retentionInDays": found.get("retentionInDays", 0)}
