"""Reads the properties of resources as the engine passes them to policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})
"""The networks that hold every address."""


def items(value: Any) -> list[Any]:
    """Return the elements of a list property, of one that is not there, or of a single value."""
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [value]


def within(value: Any, *path: str) -> Any:
    """Return what nested mappings hold under the keys of `path`, or None where one of them is missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def is_true(value: Any) -> bool:
    """Return whether a flag is set: some resources of AWS write flags as texts."""
    return value is True or value == "true"
