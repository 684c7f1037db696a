"""Puts two records side by side: what differs in what was measured, and each workload's figures as ratios."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.bench.words import in_words, settings_in_words
from ops.errors import OpsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.records import Record

# In each: the name in the table, the path in a row, and whether more of it is better.
FIGURES = (
    ("TTFT p50 ms", ("ttft_ms", "p50"), False),
    ("TTFT p99 ms", ("ttft_ms", "p99"), False),
    ("ITL p50 ms", ("itl_ms", "p50"), False),
    ("ITL p99 ms", ("itl_ms", "p99"), False),
    ("whole p50 ms", ("e2e_ms", "p50"), False),
    ("whole p99 ms", ("e2e_ms", "p99"), False),
    ("tokens/s in", ("input_tokens_per_second",), True),
    ("tokens/s out", ("output_tokens_per_second",), True),
    ("requests/s", ("requests_per_second",), True),
    ("$/M tokens", ("usd_per_million_tokens",), False),
)


@dataclass(frozen=True)
class Comparison:
    """Two records.

    Args:
        differences: what was measured that is not the same: its name, and what it is in each.
        pairs: for each workload of both: its name, and its row in each.
        only: of each record the workloads that the other one has not.
    """

    differences: list[tuple[str, Any, Any]]
    pairs: list[tuple[str, dict[str, Any], dict[str, Any]]]
    only: tuple[list[str], list[str]]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs; a ratio is the second record's figure by the first one's."""
        return {
            "differences": [
                {"what": name, "a": first, "b": second} for name, first, second in self.differences
            ],
            "workloads": [
                {
                    "workload": name,
                    "figures": {
                        label: {"a": a, "b": b, "ratio": ratio}
                        for label, a, b, ratio, _ in figures(first, second)
                    },
                }
                for name, first, second in self.pairs
            ],
            "only_a": self.only[0],
            "only_b": self.only[1],
        }


def compare(first: Record, second: Record) -> Comparison:
    """Compare two records of `berth bench`.

    Raises:
        UsageError: one of them is of another command.
        OpsError: they have no workload in common.
    """
    for record in (first, second):
        if record.document.get("kind") != "bench":
            raise UsageError(
                f"{record.path} is a record of `{record.document.get('kind')}` and not of `bench`"
            )
    by_platform = any(len(record.document["endpoints"]) > 1 for record in (first, second))
    rows = [_by_workload(record.document, by_platform=by_platform) for record in (first, second)]
    names = [name for name in rows[0] if name in rows[1]]
    only = tuple([name for name in rows[one] if name not in rows[1 - one]] for one in (0, 1))
    if not names:
        raise OpsError(
            "the two have no workload in common, so nothing can be compared:\n"
            + "\n".join(
                f"  {record.path.name}: {'; '.join(missing) or 'none'}"
                for record, missing in zip((first, second), only, strict=True)
            )
        )
    flat = [dict(_flat(_facts(record.document))) for record in (first, second)]
    differences = [
        (key, flat[0].get(key), flat[1].get(key))
        for key in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(key) != flat[1].get(key)
    ]
    return Comparison(
        differences, [(name, rows[0][name], rows[1][name]) for name in names], (only[0], only[1])
    )


def figures(
    first: dict[str, Any], second: dict[str, Any]
) -> Iterator[tuple[str, float, float, float | None, bool]]:
    """Yield the figures that both have: name, each one's, the second's by the first's, if more is better."""
    for label, path, more in FIGURES:
        a, b = _at(first, path), _at(second, path)
        if a is not None and b is not None and (a or b):
            yield label, a, b, round(b / a, 3) if a else None, more


def _at(row: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = row
    for part in path:
        value = (value or {}).get(part)
    return None if value is None else float(value)


def _by_workload(document: dict[str, Any], *, by_platform: bool) -> dict[str, dict[str, Any]]:
    found = {}
    for row in document["rows"]:
        if not row.get("answered"):
            continue
        name = in_words(row["workload"])
        parts = [
            row.get("platform") if by_platform else None,
            settings_in_words(row.get("changes", {})),
            name,
        ]
        found[" · ".join(part for part in parts if part)] = row
    return found


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: document.get(key) for key in ("command", "stack", "task", "image")},
        **document["settings"],
        "endpoint": document["endpoints"],
    }


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a document with their places; a list is one."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}" if place else key)
    else:
        yield place, json.dumps(value) if isinstance(value, list | dict) else value
