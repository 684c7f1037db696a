"""Says property by property what a step changes, with secrets hidden."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sandbox.engine import values
from sandbox.engine.values import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.engine.steps import Step

_MISSING: Any = object()
_LONGEST_VALUE = 200
_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def lines(step: Step) -> list[Text]:
    """Return the lines that describe a step: its resource, then each property that differs.

    Steps that change nothing have none; new resources have just their inputs.
    """
    if step.internal or step.op not in ("create", "update", "create-replacement", "delete"):
        return []
    if step.op == "delete":
        return [Text(f" - {step.type} {step.name}", "red")]
    olds = step.old.inputs if step.old else {}
    news = step.new.inputs if step.new else {}
    mark = {"create": "+", "update": "~"}.get(step.op, "+-")
    text = Text(f"{mark:>2} {step.type} {step.name}", {"+": "green", "~": "yellow"}.get(mark, "magenta"))
    if step.op == "create-replacement":
        text.append(
            f"  replaced because of {', '.join(step.diff.replaces) or 'an earlier deletion'}", "magenta"
        )
    result = [text]
    for path, old, new in _changes("", olds, news):
        sign = "+" if old is _MISSING else "-" if new is _MISSING else "~"
        sides = [_show(side) for side in (old, new) if side is not _MISSING]
        line = f"      {sign} {path}: {' => '.join(sides)}"
        forces = path.split(".")[0].split("[")[0] in step.diff.replaces
        result.append(Text(line + ("  (forces replacement)" if forces else ""), _STYLES[sign]))
    return result


def _changes(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            # The pickled code of a dynamic provider, which says nothing to a reader.
            if key != "__provider":
                inner = f"{path}.{key}" if path else key
                yield from _changes(inner, old.get(key, _MISSING), new.get(key, _MISSING))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _changes(f"{path}[{index}]", *pair)
    elif old is _MISSING or new is _MISSING or not values.equal(_plain(old), _plain(new)):
        yield path, old, new


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Secret) else value


def _show(value: Any) -> str:
    text = json.dumps(values.redact(value), ensure_ascii=False)
    if isinstance(value, Secret | values.Unknown):
        text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
