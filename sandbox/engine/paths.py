"""Property paths such as `spec.replicas`, `tags["a.b"]` and `list[*].name`, as in ignoreChanges."""

from __future__ import annotations

import re
from typing import Any

from sandbox.engine.errors import EngineError
from sandbox.engine.values import Secret

Path = tuple[str | int, ...]
_TOKEN = re.compile(r'\.?([^.\[\]"]+)|\[(\d+)\]|\[(\*)\]|\["((?:[^"\\]|\\.)*)"\]')


def parse(text: str) -> Path:
    """Split a property path into its keys and indexes; `*` stands for every key or index.

    Raises:
        EngineError: the text is not a property path.
    """
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise EngineError(f'{text!r} is not a property path: write a.b, a[0], a[*] or a["b"]')
        name, index, star, quoted = match.groups()
        if index is not None:
            path.append(int(index))
        else:
            path.append(name or star or re.sub(r"\\(.)", r"\1", quoted))
        position = match.end()
    return tuple(path)


def contains(outer: Path, inner: Path) -> bool:
    """Say whether a change at `inner` is a change in what `outer` names."""
    return len(outer) <= len(inner) and all(
        want in ("*", got) for want, got in zip(outer, inner, strict=False)
    )


def reset(path: Path, source: Any, target: Any) -> Any:
    """Return `target` with what `path` names taken from `source`; it is removed where `source` lacks it."""
    if not path:
        return source
    if isinstance(source, Secret):
        source = source.value
    if isinstance(target, Secret):
        return Secret(reset(path, source, target.value))
    head, *rest = path
    if isinstance(target, dict):
        olds = source if isinstance(source, dict) else {}
        keys = sorted({*target, *olds}) if head == "*" else [str(head)]
        result = dict(target)
        for key in keys:
            if not rest and key not in olds:
                result.pop(key, None)
            elif not rest:
                result[key] = olds[key]
            elif key in result and key in olds:
                result[key] = reset(tuple(rest), olds[key], result[key])
        return result
    if isinstance(target, list) and isinstance(source, list):
        indexes = range(min(len(target), len(source))) if head == "*" else [head]
        result_list = list(target)
        for index in indexes:
            if isinstance(index, int) and index < min(len(target), len(source)):
                result_list[index] = reset(tuple(rest), source[index], target[index])
        return result_list
    return target
