"""Property values as Pulumi knows them: plain JSON values, unknowns, secrets and references to resources.

Their form on the wire is defined by Pulumi's SDKs (`pulumi.runtime.rpc`): a protobuf `Struct` in which
special values are objects that carry a signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import struct_pb2

from sandbox.engine.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  # a tag, not a secret
_ASSET_SIGNATURE: Final = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE_SIGNATURE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
_REFERENCE_SIGNATURE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
_REFUSED_SIGNATURES: Final = {
    _ASSET_SIGNATURE: "assets and archives as property values",
    _ARCHIVE_SIGNATURE: "assets and archives as property values",
}
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWN_SENTINELS: Final = frozenset(
    {
        UNKNOWN_STRING,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
_LARGEST_EXACT_INTEGER: Final = 2**53

Properties = dict[str, Any]


class Unknown:
    """The type of `UNKNOWN`, a value that only the operation itself will bring."""

    def __repr__(self) -> str:
        return "[unknown]"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that must not be shown and is encrypted in state."""

    value: Any

    def __repr__(self) -> str:
        return "[secret]"


@dataclass(frozen=True)
class Reference:
    """A reference to another resource of the stack.

    Args:
        urn: the resource.
        id: its id, "" where it is not known yet, None for a component.
        version: the version of the package that it came from.
    """

    urn: str
    id: Any
    version: str


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """Read properties from the wire.

    Raises:
        UnsupportedError: a value is an asset or an archive.
    """
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: struct_pb2.Value) -> Any:
    """Read one property value from the wire."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWN_SENTINELS else value.string_value
    if kind == "number_value":
        number = value.number_value
        exact = number.is_integer() and abs(number) <= _LARGEST_EXACT_INTEGER
        return int(number) if exact else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return _from_object(value.struct_value)
    return None


def _from_object(struct: struct_pb2.Struct) -> Any:
    signature = struct.fields[SIGNATURE].string_value if SIGNATURE in struct.fields else ""
    if signature == SECRET_SIGNATURE:
        inner = from_value(struct.fields["value"])
        return inner if isinstance(inner, Secret) else Secret(inner)
    if signature == _REFERENCE_SIGNATURE:
        fields = struct.fields
        return Reference(
            fields["urn"].string_value,
            from_value(fields["id"]) if "id" in fields else None,
            fields["packageVersion"].string_value if "packageVersion" in fields else "",
        )
    if signature:
        raise UnsupportedError(_REFUSED_SIGNATURES.get(signature, f"property values of kind {signature}"))
    return from_struct(struct)


@dataclass(frozen=True)
class Wire:
    """What the other side of a call understands; what it does not is sent as its plain equivalent."""

    unknowns: bool = False
    secrets: bool = False
    references: bool = False

    def struct(self, properties: Mapping[str, Any]) -> struct_pb2.Struct:
        """Write properties for the wire; unknown ones are left out where they are not understood."""
        result = struct_pb2.Struct()
        for key, value in properties.items():
            if self.unknowns or not isinstance(value, Unknown):
                result.fields[key].CopyFrom(self.value(value))
        return result

    def value(self, value: Any) -> struct_pb2.Value:  # noqa: PLR0911  # one for each kind
        """Write one value for the wire."""
        match value:
            case None:
                return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
            case bool():
                return struct_pb2.Value(bool_value=value)
            case int() | float():
                return struct_pb2.Value(number_value=float(value))
            case str():
                return struct_pb2.Value(string_value=value)
            case Unknown():
                return struct_pb2.Value(string_value=UNKNOWN_STRING)
            case Secret():
                if not self.secrets:
                    return self.value(value.value)
                return self._signed(SECRET_SIGNATURE, {"value": value.value})
            case Reference():
                if not self.references:
                    return self.value(value.urn if value.id is None else value.id or UNKNOWN)
                fields: Properties = {"urn": value.urn, "packageVersion": value.version}
                return self._signed(
                    _REFERENCE_SIGNATURE, fields if value.id is None else {**fields, "id": value.id}
                )
            case list():
                kept = [item for item in value if self.unknowns or not isinstance(item, Unknown)]
                return struct_pb2.Value(
                    list_value=struct_pb2.ListValue(values=[self.value(item) for item in kept])
                )
            case _:
                return struct_pb2.Value(struct_value=self.struct(value))

    def _signed(self, signature: str, fields: Properties) -> struct_pb2.Value:
        return struct_pb2.Value(struct_value=self.struct({SIGNATURE: signature, **fields}))


def has_unknown(value: Any) -> bool:
    """Say whether an unknown is anywhere in a value."""
    match value:
        case Unknown():
            return True
        case Secret():
            return has_unknown(value.value)
        case Reference():
            return isinstance(value.id, Unknown)
        case list():
            return any(map(has_unknown, value))
        case dict():
            return any(map(has_unknown, value.values()))
    return False


def has_secret(value: Any) -> bool:
    """Say whether a secret is anywhere in a value."""
    match value:
        case Secret():
            return True
        case list():
            return any(map(has_secret, value))
        case dict():
            return any(map(has_secret, value.values()))
    return False


def reveal(value: Any) -> Any:
    """Return a value without its secret marks."""
    match value:
        case Secret():
            return reveal(value.value)
        case list():
            return [reveal(item) for item in value]
        case dict():
            return {key: reveal(item) for key, item in value.items()}
    return value


def redact(value: Any) -> Any:
    """Return a value for people's eyes: `[secret]` and `[unknown]` in place of what is so."""
    match value:
        case Secret() | Unknown():
            return repr(value)
        case Reference():
            return value.urn if value.id is None else redact(value.id)
        case list():
            return [redact(item) for item in value]
        case dict():
            return {key: redact(item) for key, item in value.items()}
    return value


def annotate_secrets(outputs: Properties, inputs: Properties) -> Properties:
    """Mark as secret what bears the name of a secret input.

    For providers that do not take secrets: they got and gave plain values (`annotateSecrets` of Pulumi's
    `provider_plugin.go`; objects are gone into, a list is marked as a whole).
    """
    marked = dict(outputs)
    for key, given in inputs.items():
        if key not in marked:
            continue
        got = marked[key]
        if isinstance(got, dict) and isinstance(given, dict):
            marked[key] = annotate_secrets(got, given)
        elif not isinstance(got, Secret) and has_secret(given):
            marked[key] = Secret(got)
    return marked


def equal(left: Any, right: Any) -> bool:
    """Compare two values; unlike `==`, true is not 1."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    match left, right:
        case dict(), dict():
            return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
        case list(), list():
            return len(left) == len(right) and all(map(equal, left, right))
        case Secret(), Secret():
            return equal(left.value, right.value)
    return bool(left == right)
