"""Parameters, which keep settings and secrets for other services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.types import Context, Operation, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

_CONTENT: Final = ("allowedPattern", "description", "insecureValue", "keyId", "tier", "type", "value")


class Parameter(Type):
    """A parameter."""

    pulumi_type = "aws:ssm/parameter:Parameter"
    service = "ssm"
    creates = Operation("put_parameter")
    reads = Operation("get_parameter", key="Name", result="Parameter")
    deletes = Operation("delete_parameter", key="Name")
    name_property = "name"
    name_limit = 1011
    in_place: ClassVar = dict.fromkeys(_CONTENT, "put")
    recomputed = frozenset({"version"})

    def supports(self, cloud: Cloud, name: str) -> bool:
        """Values that are never read back are refused."""
        del cloud
        return name in {*_CONTENT, "dataType", "name", "region", "tags"}

    def parameters(self, context: Context) -> dict[str, Any]:
        """A value that is no secret is a value to the API all the same."""
        parameters = super().parameters(context)
        if context.inputs.get("insecureValue") is not None:
            parameters["Value"] = str(context.inputs["insecureValue"])
        return parameters

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """A parameter goes by its name."""
        del response
        return str(context.inputs["name"])

    def put(self, context: Context, id_: str) -> None:
        """Write the whole parameter over; tags are changed apart."""
        del id_
        content = {key: value for key, value in self.parameters(context).items() if key != "Tags"}
        context.call("ssm", "put_parameter", **content, Overwrite=True)

    def _keyed(self, context: Context, operation: Operation, id_: str) -> dict[str, Any]:
        reads = operation is self.reads
        return {**super()._keyed(context, operation, id_), **({"WithDecryption": True} if reads else {})}

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add what only listings tell, and the value under the name that it was given by."""
        filters = [{"Key": "Name", "Option": "Equals", "Values": [id_]}]
        listed = context.call("ssm", "describe_parameters", ParameterFilters=filters)["Parameters"]
        described = listed[0] if listed else {}
        result: Properties = {
            name: described[member]
            for name, member in (
                ("allowedPattern", "AllowedPattern"),
                ("description", "Description"),
                ("keyId", "KeyId"),
                ("tier", "Tier"),
            )
            if described.get(member)
        }
        if context.inputs.get("insecureValue") is not None:
            result["insecureValue"] = found["Value"]
        return result

    def tags(self, context: Context, id_: str, found: dict[str, Any]) -> dict[str, str]:
        """Read the tags; the operations want to know of what type the object is."""
        del found
        place = {"ResourceType": "Parameter", "ResourceId": id_}
        return shapes.tag_map(context.call("ssm", "list_tags_for_resource", **place)["TagList"])

    def update_tags(self, context: Context, id_: str) -> None:
        """Set the wanted tags and remove all others."""
        place = {"ResourceType": "Parameter", "ResourceId": id_}
        wanted = self.marked(context)
        if removed := sorted(self.tags(context, id_, {}).keys() - wanted.keys()):
            context.call("ssm", "remove_tags_from_resource", **place, TagKeys=removed)
        tags = [{"Key": key, "Value": value} for key, value in sorted(wanted.items())]
        context.call("ssm", "add_tags_to_resource", **place, Tags=tags)
