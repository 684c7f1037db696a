"""What is wrong with a stack file, in words: which key, which value, what is allowed, what was meant."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from infra.settings.vocabulary import Allowed, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo


class SettingsError(ValueError):
    """A stack's settings are wrong; the message has one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the reason why `key` is refused, with the known key that looks most like it, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    return f"unknown key; {hint}"


def show(value: object) -> str:
    """Return a value as it would be written in a stack file, shortened where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def of_section(section: type[Section], error: ValidationError) -> list[tuple[str, str]]:
    """Return the problems of one section, as pairs of dotted key and what to say about it."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        place = item["loc"]
        if place[-1] == "[key]":  # pydantic's mark of a mapping's own key: what the mapping allows holds
            key, _, field = _walk(section, place[:-2])
            found[f"{key}.{place[-2]}"] = f" is a name that cannot be: must be {_allowed(field)}"
            continue
        key, owner, field = _walk(section, place)
        if item["type"] == "extra_forbidden":
            found[key] = f": {unknown_key(str(place[-1]), owner.model_fields)}"
        elif item["type"] == "missing":
            found[key] = f" is missing: must be {_allowed(field)}"
        else:
            found.setdefault(key, f" = {show(item['input'])}: must be {_allowed(field)}")
    return list(found.items())


def _walk(section: type[Section], place: Sequence[int | str]) -> tuple[str, type[Section], FieldInfo | None]:
    key, owner, field = "", section, None
    for part in place:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        key += f".{part}" if key else part
        if field is not None:
            nested = _section_of(field.annotation)
            if nested is None:  # the part is a key of a mapping: the mapping's own words hold
                continue
            owner = nested
            if _is_mapping(field.annotation):  # the part is the name of a section in it
                field = None
                continue
        field = owner.model_fields.get(part)
    return key, owner, field


def _section_of(annotation: Any) -> type[Section] | None:
    """Return the section in an annotation: itself, or an optional one, or those of a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (_section_of(item) for item in get_args(annotation))
    return next((section for section in inner if section is not None), None)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _allowed(field: FieldInfo | None) -> str:
    if field is None:
        return "a mapping of settings"
    for item in field.metadata:
        if isinstance(item, Allowed):
            return item.text
    return _allowed_by(field.annotation)


def _allowed_by(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(annotation))}"
    if origin in (Union, types.UnionType):
        return next(_allowed_by(choice) for choice in get_args(annotation) if choice is not type(None))
    for item in get_args(annotation)[1:]:
        if isinstance(item, Allowed):
            return item.text
    nested = _section_of(annotation)
    if nested is not None:
        required = [name for name, field in nested.model_fields.items() if field.is_required()]
        return "a mapping of settings" + (f" with {', '.join(required)}" if required else "")
    raise TypeError(f"a setting of type {annotation} does not say what it allows")
