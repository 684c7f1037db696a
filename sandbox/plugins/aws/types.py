"""What a resource type of AWS is: the table's columns, and what they mean for the calls of its life."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import jmespath

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.differences import top_level
from sandbox.plugins.schema import schema

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud
    from sandbox.plugins.host import Failure, Request

# Says which resource of which stack made an object, and with which inputs (see lifecycle.py).
MARKER: Final = "berth:marker"


@dataclass(frozen=True)
class Operation:
    """One API operation of a type.

    Args:
        name: boto3's method.
        key: the parameters that the parts of the id go into, separated by spaces.
        result: JMESPath of what is wanted in the response.
    """

    name: str
    key: str = ""
    result: str = "@"


@dataclass(frozen=True)
class Status:
    """Where an object says how far it is.

    Args:
        path: JMESPath of its status.
        ready: the values that mean ready.
        failed: the values from which it will not get ready.
        reason: JMESPath of why not.
    """

    path: str
    ready: frozenset[str]
    failed: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True)
class Context:
    """One call on one object: the engine's request, the cloud, and the tags that the object is to bear."""

    request: Request
    cloud: Cloud
    marker: str

    @property
    def inputs(self) -> Properties:
        """The inputs wanted."""
        return self.request.inputs

    @property
    def region(self) -> str:
        """The region that the object is in."""
        region = self.inputs.get("region") or self.request.old_outputs.get("region") or self.cloud.region
        return str(region)

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation in the object's region."""
        return self.cloud.call(service, operation, self.region, **parameters)

    def tags_all(self) -> dict[str, str]:
        """Tags of the object as its user knows them: the provider's, and its own over them."""
        return {**self.cloud.configuration.default_tags, **(self.inputs.get("tags") or {})}


class Type:
    """A resource type.

    Class attributes are the table's columns; a method is overridden only where AWS is irregular.
    """

    pulumi_type: ClassVar[str]
    """The type's token, `aws:ec2/vpc:Vpc`."""
    service: ClassVar[str]
    creates: ClassVar[Operation]
    """Makes the object; `result` is its id."""
    reads: ClassVar[Operation]
    deletes: ClassVar[Operation]
    renames: ClassVar[Mapping[str, str]] = {}
    """Property names whose API name differs by more than its case, at any depth."""
    in_place: ClassVar[Mapping[str, str]] = {}
    """Method that changes a property in place, by property; all others force replacement."""
    local: ClassVar[frozenset[str]] = frozenset()
    """Properties that steer this provider only."""
    extra: ClassVar[frozenset[str]] = frozenset()
    """Properties that `parameters` or `after_create` turn into something of another name."""
    recomputed: ClassVar[frozenset[str]] = frozenset()
    """Outputs that every update changes."""
    name_property: ClassVar[str] = ""
    """The property that names the object, which is made up where it is not given."""
    name_limit: ClassVar[int] = 255
    name_is_lowercase: ClassVar[bool] = False
    name_prefix: ClassVar[str] = ""
    """What all made-up names begin with."""
    exclusive: ClassVar[bool] = False
    """Whether a new object cannot be beside the one that it replaces."""
    separator: ClassVar[str] = ":"
    status: ClassVar[Status | None] = None
    gone: ClassVar[frozenset[str]] = frozenset()
    """Values of the status that mean deleted."""
    remains: ClassVar[bool] = False
    """Whether AWS puts a default in the place of what is deleted, so that there is nothing to wait for."""
    tags_of: ClassVar[Operation | None] = None
    """Reads the tags where the object does not carry them; `key` takes what `tag_target` gives."""
    tagging: ClassVar[tuple[str, str, str] | None] = None
    """Operations that set and remove tags, and the parameter that names the object."""
    tags_parameter: ClassVar[str] = "tags"
    """What the operations call the tags."""

    # Identity -----------------------------------------------------------------------------------------------

    def split(self, operation: Operation, id_: str) -> dict[str, Any]:
        """Return the parameters that name the object in an operation."""
        names = operation.key.split()
        parts = id_.split(self.separator, len(names) - 1) if len(names) > 1 else [id_]
        return dict(zip(names, parts, strict=True))

    def _keyed(self, context: Context, operation: Operation, id_: str) -> dict[str, Any]:
        shape = context.cloud.input_shape(self.service, operation.name)
        parameters = self.split(operation, id_)
        return {
            key: [value] if shape.members[key].type_name == "list" else value
            for key, value in parameters.items()
        }

    # Create -------------------------------------------------------------------------------------------------

    def parameters(self, context: Context) -> dict[str, Any]:
        """Return the parameters of the create operation, tags among them."""
        shape = context.cloud.input_shape(self.service, self.creates.name)
        given = {key: value for key, value in context.inputs.items() if key not in {"tags", "region"}}
        parameters: dict[str, Any] = shapes.to_api(given, shape, self.renames)
        parameters.update(self.tag_parameters(context, shape))
        return parameters

    def tag_parameters(self, context: Context, shape: Any) -> dict[str, Any]:
        """Return the create operation's parameter that carries the tags, if it has one."""
        name = shapes.member(shape, self.tags_parameter, {})
        if name is None or not self.taggable:
            return {}
        return {name: shapes.tag_list(shape.members[name], self.marked(context))}

    @property
    def taggable(self) -> bool:
        """Whether objects of this type bear tags."""
        return "tags" in schema(self.pulumi_type).inputs

    def marked(self, context: Context) -> dict[str, str]:
        """Return the object's tags with the mark of who made it."""
        return {**context.tags_all(), MARKER: context.marker}

    def create(self, context: Context) -> str:
        """Make the object; return its id.

        Raises:
            CloudError: AWS refused.
        """
        response = context.call(self.service, self.creates.name, **self.parameters(context))
        return self.identify(context, response)

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Return the id of what the create operation made."""
        del context
        return str(jmespath.search(self.creates.result, response))

    def after_create(self, context: Context, id_: str) -> None:
        """Set what the create operation cannot; safe to run again."""

    def existing(self, context: Context) -> str | None:
        """Return the id of the object that bears the wanted name, if there is one."""
        return str(context.inputs[self.name_property]) if self.name_property else None

    def orphans(self, context: Context) -> list[str]:
        """Return the ids of objects that bear this resource's mark, for types whose objects have no names."""
        del context
        return []

    # Read ---------------------------------------------------------------------------------------------------

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Return the object as the API describes it, or None where it does not exist."""
        try:
            response = context.call(self.service, self.reads.name, **self._keyed(context, self.reads, id_))
        except CloudError as error:
            if error.not_found:
                return None
            raise
        found: dict[str, Any] | None = jmespath.search(self.reads.result, response)
        if found and self.status and jmespath.search(self.status.path, found) in self.gone:
            return None
        return found or None

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Return the properties of a described object, named as the official provider names them."""
        properties = {
            key: value
            for key, value in schema(self.pulumi_type).outputs.items()
            if key not in {"tags", "tagsAll"}
        }
        result = shapes.from_api(found, properties, self.renames)
        result.update(self.computed(context, id_, found))
        return result

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Return the outputs that the described object does not simply carry."""
        del context, id_, found
        return {}

    def tags(self, context: Context, id_: str, found: dict[str, Any]) -> dict[str, str]:
        """Return all tags of an object, this provider's mark among them."""
        if self.tags_of is None:
            return shapes.tag_map(found.get("Tags") or found.get("tags") or found.get("TagSet"))
        target = self.tag_target(context, id_, found)
        shape = context.cloud.input_shape(self.service, self.tags_of.name)
        listed = shape.members[self.tags_of.key].type_name == "list"
        response = context.call(
            self.service, self.tags_of.name, **{self.tags_of.key: [target] if listed else target}
        )
        return shapes.tag_map(jmespath.search(self.tags_of.result, response))

    # Update -------------------------------------------------------------------------------------------------

    def is_in_place(self, path: str, kind: str) -> bool:
        """Say whether a difference at this property path can be changed in place.

        Args:
            path: the property path.
            kind: `add`, `delete` or `update`.
        """
        del kind
        if top_level(path) in self.local | {"tags", "tagsAll"}:
            return True
        return any(within(path, key) for key in self.in_place)

    def update(self, context: Context, id_: str, paths: Collection[str]) -> None:
        """Change what differs.

        Args:
            context: the call.
            id_: the object.
            paths: the property paths that differ, tags aside.
        """
        methods = [name for key, name in self.in_place.items() if any(within(path, key) for path in paths)]
        for name in dict.fromkeys(methods):
            getattr(self, name)(context, id_)

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """Return what the tagging operations know the object by: its ARN, where the type has one."""
        return str(self.outputs(context, id_, found).get("arn") or id_)

    def update_tags(self, context: Context, id_: str) -> None:
        """Set the object's tags to the wanted ones."""
        assert self.tagging is not None  # noqa: S101  # a type with tags says how they are changed
        found = self.read(context, id_)
        if found is None:
            return
        set_operation, remove_operation, key = self.tagging
        wanted, actual = self.marked(context), self.tags(context, id_, found)
        target: Any = self.tag_target(context, id_, found)
        shape = context.cloud.input_shape(self.service, set_operation)
        if shape.members[key].type_name == "list":
            target = [target]
        if removed := sorted(key_ for key_ in actual if key_ not in wanted and not key_.startswith("aws:")):
            self._remove_tags(context, remove_operation, key, target, removed)
        name = shapes.member(shape, self.tags_parameter, {})
        assert name is not None  # noqa: S101  # an operation that sets tags has a parameter for them
        tags = shapes.tag_list(shape.members[name], wanted)
        context.call(self.service, set_operation, **{key: target, name: tags})

    def _remove_tags(self, context: Context, operation: str, key: str, target: Any, names: list[str]) -> None:
        shape = context.cloud.input_shape(self.service, operation)
        listed = f"{self.tags_parameter.removesuffix('s')}Keys"
        name = shapes.member(shape, listed, {}) or shapes.member(shape, self.tags_parameter, {})
        assert name is not None  # noqa: S101  # an operation that removes tags has a parameter for them
        keys: list[Any] = list(names)
        if shape.members[name].member.type_name == "structure":
            keys = [{"Key": item} for item in names]
        context.call(self.service, operation, **{key: target, name: keys})

    # Delete -------------------------------------------------------------------------------------------------

    def before_delete(self, context: Context, id_: str) -> None:
        """Do what the object's own settings ask for before it is deleted."""

    def delete(self, context: Context, id_: str) -> None:
        """Ask for the object to be deleted.

        Raises:
            CloudError: AWS refused.
        """
        context.call(self.service, self.deletes.name, **self._keyed(context, self.deletes, id_))

    # Check --------------------------------------------------------------------------------------------------

    def check(self, inputs: Properties) -> list[Failure]:
        """Return what is wrong with inputs beyond their names and types."""
        del inputs
        return []

    def supports(self, cloud: Cloud, name: str) -> bool:
        """Say whether this plugin acts on an input."""
        if name in {"tags", "region"} or name in self.local or name in self.extra or name in self.in_place:
            return True
        return (
            shapes.member(cloud.input_shape(self.service, self.creates.name), name, self.renames) is not None
        )


def within(path: str, key: str) -> bool:
    """Say whether a property path is a property or lies within it, or is the object that it lies in."""
    return path == key or path.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{path}.")


def plain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave out the tags that are not the user's: AWS's own and this provider's mark."""
    return {key: value for key, value in tags.items() if key != MARKER and not re.match("aws:", key)}
