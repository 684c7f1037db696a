"""Differences between two property values, by property path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from sandbox.engine.values import Secret, Unknown

Equal = Callable[[Any, Any], bool]
_IDENTIFIER: Final = re.compile(r"^[A-Za-z_$][\w$]*$")


def differences(old: Any, new: Any, equal: Equal, path: str = "") -> dict[str, str]:
    """Return the kind of difference (`add`, `delete`, `update`) by property path.

    Args:
        old: the value that was.
        new: the value that is wanted; an unknown in it differs from everything.
        equal: says whether two leaves mean the same.
        path: the path of both values.
    """
    old = old.value if isinstance(old, Secret) else old
    new = new.value if isinstance(new, Secret) else new
    if isinstance(old, dict) and isinstance(new, dict) and not equal(old, new):
        found: dict[str, str] = {}
        for key in sorted(old.keys() | new.keys()):
            found.update(_member(old.get(key), new.get(key), equal, _join(path, key)))
        return found
    if isinstance(old, list) and isinstance(new, list) and not equal(old, new):
        found = {}
        for index in range(max(len(old), len(new))):
            left = old[index] if index < len(old) else None
            right = new[index] if index < len(new) else None
            found.update(_member(left, right, equal, f"{path}[{index}]"))
        return found
    if isinstance(new, Unknown) or not equal(old, new):
        return {path: "update"}
    return {}


def _member(old: Any, new: Any, equal: Equal, path: str) -> dict[str, str]:
    if old is None and new is None:
        return {}
    if old is None:
        return {path: "add"}
    if new is None:
        return {path: "delete"}
    return differences(old, new, equal, path)


def _join(path: str, key: str) -> str:
    if not _IDENTIFIER.match(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def top_level(path: str) -> str:
    """Return the property that a path begins with."""
    if path.startswith('["'):
        return str(json.loads(path[1 : path.index('"]') + 1]))
    return re.split(r"[.\[]", path, maxsplit=1)[0]
