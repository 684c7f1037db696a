"""What properties a resource type has, read from the source of Pulumi's own SDKs.

The SDK's classes carry every name, type and requirement of the official provider, but importing them loads
hundreds of megabytes of source. Parsing the one class that is asked for takes milliseconds.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sandbox.engine.values import Unknown
from sandbox.plugins.errors import PluginError
from sandbox.plugins.host import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["string", "integer", "number", "boolean", "list", "map", "object", "any"]
_SCALARS: Final[dict[str, Kind]] = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_WORDS: Final[dict[Kind, str]] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "map": "an object",
    "object": "an object",
}


@dataclass(frozen=True)
class PropertyType:
    """The type of one property.

    Args:
        kind: what the value is.
        item: type of the items of a list or map.
        members: reads the properties of an object; None where any are allowed. They are read when they are
            asked for, as some types contain themselves.
        json: whether an object may stand for its JSON text.
    """

    kind: Kind
    item: PropertyType | None = None
    members: Callable[[], dict[str, Property]] | None = None
    json: bool = False

    @property
    def properties(self) -> dict[str, Property] | None:
        """Properties of an object; None where any are allowed."""
        return self.members() if self.members else None


@dataclass(frozen=True)
class Property:
    """One property: its type, and whether it must be given."""

    type: PropertyType
    required: bool


@dataclass(frozen=True)
class Schema:
    """The inputs and outputs of a resource type."""

    inputs: dict[str, Property]
    outputs: dict[str, Property]


@functools.cache
def _sdk_directory(package: str) -> Path:
    """Return the folder of a provider's installed SDK, without importing it."""
    spec = importlib.util.find_spec(f"pulumi_{package}")
    if spec is None or not spec.submodule_search_locations:
        raise PluginError(
            f"the package pulumi-{package} is not installed, and with it the names of all properties"
        )
    return Path(spec.submodule_search_locations[0])


@functools.cache
def schema(token: str) -> Schema:
    """Return the schema of a resource type such as `aws:ec2/vpc:Vpc`."""
    package, module, name = token.split(":")
    directory, _, file = module.partition("/")
    source = _Source(_sdk_directory(package) / directory)
    path = f"{_snake(file)}.py"
    # A type whose arguments would be called like those of a property of another type has `InitArgs`.
    arguments = f"{name}InitArgs" if source.has(path, f"{name}InitArgs") else f"{name}Args"
    return Schema(source.arguments(path, arguments), source.getters(path, name))


@functools.cache
def provider_inputs(package: str) -> dict[str, Property]:
    """Return a provider's own settings."""
    return _Source(_sdk_directory(package)).arguments("provider.py", "ProviderArgs")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


class _Source:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, file: str, name: str) -> bool:
        """Say whether a file has a class."""
        return name in _classes(self._directory / file)

    def _class(self, file: str, name: str) -> ast.ClassDef:
        if not self.has(file, name):
            raise PluginError(f"{name} is not in {file} of the installed SDK")
        node = ast.parse(_classes(self._directory / file)[name]).body[0]
        assert isinstance(node, ast.ClassDef)  # noqa: S101  # the text begins with `class`
        return node

    def arguments(self, file: str, name: str) -> dict[str, Property]:
        """Read the parameters of an `Args` class."""
        node = self._class(file, name)
        names = _getter_names(node)
        init = next(
            item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"
        )
        found = {}
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            type_ = self._type(argument.annotation, "_inputs.py")
            key = names.get(argument.arg, _camel(argument.arg))
            found[key] = Property(type_, required=default is None)
        return found

    def getters(self, file: str, name: str) -> dict[str, Property]:
        """Read the outputs of a resource class, or the properties of an output type."""
        node = self._class(file, name)
        found = {}
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and (key := _getter_name(item)):
                found[key] = Property(self._type(item.returns, "outputs.py"), required=False)
        return found

    def _type(self, node: ast.expr | None, file: str) -> PropertyType:
        match node:
            case ast.Subscript(value=value, slice=inner):
                return self._generic(_last(value), inner, file)
            case ast.Constant(value=str(name)):
                class_name = name.rpartition(".")[2]
                if file == "_inputs.py" and not class_name.endswith("Args"):
                    return PropertyType("string")  # an enumeration
                return self._object(class_name, file)
            case ast.Name() | ast.Attribute():
                return PropertyType(_SCALARS.get(_last(node), "any"))
        return PropertyType("any")

    def _generic(self, name: str, inner: ast.expr, file: str) -> PropertyType:
        if name in {"Input", "Optional", "Output"}:
            return self._type(inner, file)
        if name == "Sequence":
            return PropertyType("list", self._type(inner, file))
        elements = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if name == "Mapping":
            return PropertyType("map", self._type(elements[1], file))
        options = [self._type(element, file) for element in elements]
        if any(option.kind == "string" for option in options):
            return PropertyType("string", json=any(option.kind == "object" for option in options))
        return PropertyType("any")

    def _object(self, name: str, file: str) -> PropertyType:
        if name.endswith("DocumentArgs"):
            return PropertyType("object")
        return PropertyType("object", members=functools.partial(_members, self._directory, file, name))


@functools.cache
def _members(directory: Path, file: str, name: str) -> dict[str, Property]:
    """Return the properties of a nested type."""
    source = _Source(directory)
    return source.getters(file, name) if file == "outputs.py" else source.arguments(file, name)


@functools.cache
def _classes(path: Path) -> dict[str, str]:
    """Return the source of each class of a file by its name."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise PluginError(f"{path.name} is not in the installed pulumi-aws") from None
    starts = list(re.finditer(r"^(?:class (\w+)|@|def )", text, re.MULTILINE))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {match[1]: text[match.start() : end] for match, end in zip(starts, ends, strict=True) if match[1]}


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _getter_names(node: ast.ClassDef) -> dict[str, str]:
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return {item.name: key for item in functions if (key := _getter_name(item))}


def _getter_name(function: ast.FunctionDef) -> str | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and _last(decorator.func) == "getter":
            return str(ast.literal_eval(decorator.keywords[0].value))
        if isinstance(decorator, ast.Attribute) and decorator.attr == "getter":
            return function.name
    return None


def problems(properties: dict[str, Property], values: dict[str, Any], path: str = "") -> list[Failure]:
    """Return what is wrong with given values, by property path."""
    found = []
    for key, value in values.items():
        at = f"{path}.{key}" if path else key
        if key.startswith("__"):
            continue
        if key not in properties:
            found.append(Failure(at, f"unknown property {at!r}{_closest(key, properties)}"))
        elif value is not None:
            found.extend(_type_problems(properties[key].type, value, at))
    for key, allowed in properties.items():
        if allowed.required and values.get(key) is None:
            at = f"{path}.{key}" if path else key
            found.append(Failure(at, f"missing required property {at!r}"))
    return found


def _closest(key: str, properties: dict[str, Property]) -> str:
    import difflib  # noqa: PLC0415  # only a mistake needs it

    close = difflib.get_close_matches(key, properties, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed are {', '.join(sorted(properties))}"


def _type_problems(type_: PropertyType, value: Any, path: str) -> list[Failure]:
    if isinstance(value, Unknown) or type_.kind == "any" or (type_.json and isinstance(value, dict)):
        return []
    if not _fits(type_.kind, value):
        shown = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)
        return [Failure(path, f"{path!r} must be {_WORDS[type_.kind]}, not {shown}")]
    found = []
    if type_.kind == "list" and type_.item:
        for index, item in enumerate(value):
            found.extend(_type_problems(type_.item, item, f"{path}[{index}]"))
    elif type_.kind == "map" and type_.item:
        for key, item in value.items():
            found.extend(_type_problems(type_.item, item, f"{path}.{key}"))
    elif type_.kind == "object" and type_.properties is not None:
        found.extend(problems(type_.properties, value, path))
    return found


def truth(value: Any) -> bool:
    """Read a boolean, which the official providers take as text too."""
    return value in {True, "true"}


def _fits(kind: Kind, value: Any) -> bool:  # noqa: PLR0911  # one for each kind of type
    """Say whether a value fits; scalars convert into one another where nothing is lost."""
    match kind:
        case "list":
            return isinstance(value, list)
        case "map" | "object":
            return isinstance(value, dict)
        case "boolean":
            return isinstance(value, bool) or value in {"true", "false"}
        case "string":
            return isinstance(value, (str, int, float, bool))
        case "integer":
            return not isinstance(value, bool) and re.fullmatch(r"-?\d+", str(value)) is not None
        case "number":
            return not isinstance(value, bool) and re.fullmatch(r"-?\d+(\.\d+)?", str(value)) is not None
    return True
