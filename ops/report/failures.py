"""Everything that went wrong in what was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.report.blocks import Section, Table, Text
from ops.report.deployed import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.report.blocks import Block
    from ops.report.evidence import Evidence

_Row = tuple[str, str, str, str]


def section(evidence: Evidence) -> Section:
    """Return the part."""
    rows = [*_changes(evidence), *_smoke(evidence), *_bench(evidence), *_load(evidence)]
    blocks: list[Block] = []
    if rows:
        blocks.append(Table("What went wrong", ("Command", "Where", "What", "Times"), rows, left=3))
    elif evidence.files:
        blocks.append(Text("Nothing that is recorded went wrong.", "good"))
    else:
        blocks.append(Text("Nothing is recorded, and so no error.", "missing"))
    blocks += [Text(f"Not read: {reason}", "warn") for reason in evidence.unreadable]
    return Section("errors", "Errors", blocks)


def count(evidence: Evidence) -> int:
    """Return how many kinds of errors there are."""
    return sum(1 for find in (_changes, _smoke, _bench, _load) for _ in find(evidence))


def _changes(evidence: Evidence) -> Iterator[_Row]:
    if evidence.up is not None and evidence.up.said.problem is not None:
        yield "up", "", evidence.up.said.problem, "1"
    for kept in evidence.destroys:
        if kept.said.problem is not None:
            yield "destroy", "", kept.said.problem, "1"


def _smoke(evidence: Evidence) -> Iterator[_Row]:
    for kept in evidence.smokes:
        for endpoint in kept.said.endpoints:
            for check in endpoint.checks:
                if check.problem is not None:
                    where = CLOUDS.get(endpoint.platform, endpoint.platform)
                    yield "smoke", where, f"{check.name}: {check.problem}", "1"


def _bench(evidence: Evidence) -> Iterator[_Row]:
    for kept in evidence.benches:
        for row in kept.said.rows:
            where = CLOUDS.get(row.platform, row.platform)
            work = row.workload
            what = f"{work.concurrency} at once, {work.kind}: " if work else ""
            for error, times in row.errors.items():
                detail = row.error_details.get(error)
                more = f" ({detail})" if detail and detail != error else ""
                yield "bench", where, f"{what}{error}{more}", f"{times:,}"
            if row.problem is not None:
                yield "bench", where, f"{what}{row.problem}", "1"


def _load(evidence: Evidence) -> Iterator[_Row]:
    for kept in evidence.loads:
        for row in kept.said.requests:
            for failure, counted in row.failures.items():
                where = CLOUDS.get(row.platform, row.platform)
                yield "load", where, f"{row.kind}: {failure}: {counted.example}", f"{counted.count:,}"
