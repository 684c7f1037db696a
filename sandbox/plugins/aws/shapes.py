"""Turns Pulumi's properties into the parameters of an API operation, and API objects into properties.

The names differ in their case only (`cidrBlock`, `CidrBlock`, `roleArn`, `RoleArn`), which botocore's own
service models settle; a type's renames settle the rest. Three differences in form are the same everywhere:
the official provider has some single objects as lists of one, some lists of one as single objects, and tags
as an object where the API has a list.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import TYPE_CHECKING, Any

from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.plugins.schema import Property, PropertyType


def member(shape: Any, name: str, renames: Mapping[str, str]) -> str | None:
    """Return the member of a structure that a property is called by, or None."""
    if shape is None or shape.type_name != "structure":
        return None
    names = _members(shape)
    # A rename holds where the structure has such a member; elsewhere the same word may mean itself.
    return names.get(renames.get(name, name).lower()) or names.get(name.lower())


@functools.lru_cache(maxsize=4096)
def _members(shape: Any) -> dict[str, str]:
    return {key.lower(): key for key in shape.members}


def to_api(  # noqa: PLR0911  # one for each kind of shape
    value: Any, shape: Any, renames: Mapping[str, str]
) -> Any:
    """Turn a property's value into what an operation takes; what it does not know is left out."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, list) and len(value) == 1:
        return to_api(value[0], shape, renames)
    if kind == "list" and isinstance(value, dict):
        return tag_list(shape, value) if _is_tag(shape.member) else [to_api(value, shape.member, renames)]
    if kind == "structure" and isinstance(value, dict):
        result = {}
        for key, item in value.items():
            name = member(shape, key, renames)
            if name is not None and item is not None:
                result[name] = to_api(item, shape.members[name], renames)
        return result
    if kind == "list" and isinstance(value, list):
        return [to_api(item, shape.member, renames) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: to_api(item, shape.value, renames) for key, item in value.items()}
    if kind == "boolean":
        return truth(value)
    if kind in {"integer", "long"}:
        return int(value)
    if kind in {"float", "double"}:
        return float(value)
    if kind == "string":
        return _text(value)
    return value


def _is_tag(shape: Any) -> bool:
    return shape.type_name == "structure" and {key.lower() for key in shape.members} == {"key", "value"}


def tag_list(shape: Any, tags: Mapping[str, str]) -> Any:
    """Write tags as an operation takes them: an object, or a list of keys and values."""
    if shape.type_name == "map":
        return dict(tags)
    key, value = (
        next(name for name in shape.member.members if name.lower().endswith(end)) for end in ("key", "value")
    )
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def tag_map(tags: Any) -> dict[str, str]:
    """Read tags in any of the forms that AWS writes them in."""
    if isinstance(tags, dict):
        return {str(key): str(value) for key, value in tags.items()}
    found = {}
    for tag in tags or ():
        parts = {name.lower().removeprefix("tag"): text for name, text in tag.items()}
        found[str(parts["key"])] = str(parts.get("value", ""))
    return found


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)


def from_api(
    found: Mapping[str, Any], properties: Mapping[str, Property], renames: Mapping[str, str]
) -> dict[str, Any]:
    """Turn an API object into properties; only what the object has is in the result."""
    members = {key.lower(): value for key, value in found.items()}
    result = {}
    for name, property_ in properties.items():
        value = members.get(renames.get(name, name).lower(), members.get(name.lower()))
        if value is not None:
            result[name] = _from_api(value, property_.type, renames)
    return result


def _from_api(  # noqa: PLR0911  # one for each kind of type
    value: Any, type_: PropertyType, renames: Mapping[str, str]
) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    match type_.kind, value:
        case "string", _:
            return _text(value)
        case "object", [first, *_] if type_.properties is not None:
            return _from_api(first, type_, renames)
        case "object", dict() if type_.properties is not None:
            return from_api(value, type_.properties, renames)
        case "map", list():
            return tag_map(value)
        case "list", _ if type_.item:
            items = value if isinstance(value, list) else [value]
            return [_from_api(item, type_.item, renames) for item in items]
    return value


def same(  # noqa: PLR0911  # one for each kind of value
    left: Any, right: Any
) -> bool:
    """Say whether two values mean the same to AWS: JSON texts by content, lists of names in any order."""
    if left == right and isinstance(left, bool) == isinstance(right, bool):
        return True
    match left, right:
        case dict(), dict():
            return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        case list(), list():
            return len(left) == len(right) and _same_items(left, right)
        case ((dict() | list()), _):
            return isinstance(right, str) and same_json(_text(left), right)
        case _, (dict() | list()):
            return isinstance(left, str) and same_json(left, _text(right))
    if left is None or right is None:
        return False
    return _text(left) == _text(right) or same_json(_text(left), _text(right))


def _same_items(left: list[Any], right: list[Any]) -> bool:
    rest = list(right)
    for item in left:
        match = next((index for index, other in enumerate(rest) if same(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return True


def same_json(left: str, right: str) -> bool:
    """Say whether two texts are the same JSON object or array."""
    if not (left[:1] in "{[" and right[:1] in "{[" and left and right):
        return False
    try:
        return bool(json.loads(left) == json.loads(right))
    except ValueError:
        return False


def settle(given: Any, actual: Any) -> Any:
    """Return what an input is now: as it was given where the object still agrees, else the object's own.

    An object's members that were not given are AWS's defaults and no drift.
    """
    if actual is None:
        return given
    if isinstance(given, dict) and isinstance(actual, dict):
        return {key: settle(value, actual.get(key)) for key, value in given.items()}
    if isinstance(given, list) and isinstance(actual, list):
        return given if _covers(given, actual) else actual
    return given if same(given, actual) else actual


def _covers(given: list[Any], actual: list[Any]) -> bool:
    if len(given) != len(actual):
        return False
    rest = list(actual)
    for item in given:
        match = next((index for index, other in enumerate(rest) if same(settle(item, other), item)), None)
        if match is None:
            return False
        del rest[match]
    return True
