"""What all types of EC2 have in common: ARNs, tags, and nameless objects that are found by their mark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import jmespath

from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import MARKER, Context, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class Ec2Type(Type):
    """A type of EC2."""

    service = "ec2"
    resource_type: ClassVar[str]
    """What EC2's tag specifications call the type."""
    listed_id: ClassVar[str]
    """JMESPath of the ids in a response of the read operation."""
    tagging = ("create_tags", "delete_tags", "Resources")
    arn_type: ClassVar[str] = ""
    """The type in ARNs, where it is not the tag specification's."""
    filters_parameter: ClassVar[str] = "Filters"
    """What the read operation calls its filters."""

    def tag_parameters(self, context: Context, shape: Any) -> dict[str, Any]:
        """EC2 takes tags as specifications by resource type."""
        if not self.taggable or "TagSpecifications" not in shape.members:
            return {}
        tags = [{"Key": key, "Value": value} for key, value in sorted(self.marked(context).items())]
        return {"TagSpecifications": [{"ResourceType": self.resource_type, "Tags": tags}]}

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """EC2's tags go by id."""
        del context, found
        return id_

    def orphans(self, context: Context) -> list[str]:
        """Find what bears this resource's mark."""
        if not self.taggable:
            return []
        filters = [{"Name": f"tag:{MARKER}", "Values": [f"{context.marker.partition('.')[0]}.*"]}]
        response = context.call("ec2", self.reads.name, **{self.filters_parameter: filters})
        return [str(item) for item in jmespath.search(self.listed_id, response) or ()]

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Every object has an ARN that is made of its id."""
        owner = str(found.get("OwnerId") or context.cloud.account)
        kind = self.arn_type or self.resource_type
        return {
            "arn": context.cloud.arn("ec2", f"{kind}/{id_}", context.region, owner),
            "ownerId": owner,
        }


def refuse_failures(operation: str, response: dict[str, Any]) -> None:
    """Raise the first error of an operation on several objects, which succeeds whatever becomes of them.

    Raises:
        CloudError: AWS refused it for one of them.
    """
    for item in response.get("Unsuccessful") or ():
        raise CloudError(operation, item["Error"]["Code"], item["Error"]["Message"])


def first(context: Context, operation: str, items: str, **filters: str) -> dict[str, Any]:
    """Return the first object that a listing gives for filters; {} where there is none."""
    wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    found = context.call("ec2", operation, Filters=wanted)[items]
    return found[0] if found else {}
