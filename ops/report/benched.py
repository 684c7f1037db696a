"""Latency and throughput by concurrency: from the records of `bench`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ops.report import figures
from ops.report.blocks import Chart, Charts, Line, Section, Table, Text
from ops.report.deployed import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.report.blocks import Block
    from ops.report.evidence import Evidence
    from ops.report.shapes import BenchRow

Rows = dict[tuple[str, str], dict[int, "BenchRow"]]
"""By endpoint and kind of request: by requests at once, what was measured."""
_HEADINGS = (
    "Endpoint",
    "Request",
    "At once",
    "Requests/s",
    "Tokens/s in",
    "Tokens/s out",
    "TTFT p50, ms",
    "p99, ms",
    "ITL p50, ms",
    "p99, ms",
    "End to end p50, ms",
    "p99, ms",
    "Errors",
)


def rows_of(evidence: Evidence) -> Rows:
    """Return the last row of each endpoint, kind of request and concurrency, by the first two."""
    last: dict[tuple[str, str], dict[int, BenchRow]] = defaultdict(dict)
    for kept in evidence.benches:
        for row in kept.said.rows:
            if (work := row.workload) is not None and kept.said.command == "matrix":
                last[row.platform, work.kind][work.concurrency] = row
    return {key: dict(sorted(rows.items())) for key, rows in sorted(last.items())}


def section(evidence: Evidence) -> Section:
    """Return the part."""
    rows = rows_of(evidence)
    if not rows:
        command = f"./berth bench --stack {evidence.stack}"
        return Section(
            "bench",
            "Latency and throughput",
            [
                Text(f"No latency and no throughput has been measured: `{command}`.", "missing"),
                *_sweeps(evidence),
            ],
        )
    times = [kept.at for kept in evidence.benches if kept.said.command == "matrix"]
    many = f"{len(times)} records" if len(times) > 1 else "one record"
    blocks: list[Block] = [
        Text(
            f"From {many}, the last of {figures.when(times[-1])}. TTFT is the time to the first token, ITL"
            " the time between two tokens. Of a workload that was measured twice, the last time counts."
        )
    ]
    charts = [chart for chart in _charts(rows) if chart is not None]
    if charts:
        blocks.append(Charts(charts))
    cut = sum(not row.complete for measured in rows.values() for row in measured.values())
    if cut:
        blocks.append(Text(f"{cut} of the workloads were broken off: their figures are of a part.", "warn"))
    blocks += [Table("Every workload", _HEADINGS, _cells(rows), left=2), *_sweeps(evidence)]
    return Section("bench", "Latency and throughput", blocks)


def _charts(rows: Rows) -> list[Chart | None]:
    return [
        _chart(rows, "Throughput", "output tokens/s", lambda row: row.output_tokens_per_second),
        _chart(rows, "Requests", "requests/s", lambda row: row.requests_per_second),
        _chart(rows, "Time to first token, p50", "ms", _percentile("ttft_ms", "p50")),
        _chart(rows, "Time to first token, p99", "ms", _percentile("ttft_ms", "p99")),
        _chart(rows, "Time between tokens, p50", "ms", _percentile("itl_ms", "p50")),
        _chart(rows, "End to end, p99", "ms", _percentile("e2e_ms", "p99")),
    ]


def _percentile(figure: str, which: str) -> Callable[[BenchRow], float | None]:
    def read(row: BenchRow) -> float | None:
        found: dict[str, float] | None = getattr(row, figure)
        return found.get(which) if found else None

    return read


def _chart(rows: Rows, title: str, y_label: str, read: Callable[[BenchRow], float | None]) -> Chart | None:
    lines = [
        Line(
            f"{CLOUDS.get(platform, platform)}: {kind}",
            [(at_once, value) for at_once, row in measured.items() if (value := read(row)) is not None],
        )
        for (platform, kind), measured in rows.items()
    ]
    lines = [line for line in lines if line.points]
    if not lines or not any(value for line in lines for _, value in line.points):
        return None
    return Chart(title, "requests at once", y_label, lines, x_doubles=True)


def _cells(rows: Rows) -> list[tuple[str, ...]]:
    def of(found: dict[str, float] | None, which: str) -> str:
        return figures.significant(found.get(which)) if found else figures.NONE

    return [
        (
            CLOUDS.get(platform, platform),
            kind,
            figures.number(at_once),
            figures.significant(row.requests_per_second),
            figures.significant(row.input_tokens_per_second),
            figures.significant(row.output_tokens_per_second),
            of(row.ttft_ms, "p50"),
            of(row.ttft_ms, "p99"),
            of(row.itl_ms, "p50"),
            of(row.itl_ms, "p99"),
            of(row.e2e_ms, "p50"),
            of(row.e2e_ms, "p99"),
            figures.number(sum(row.errors.values())),
        )
        for (platform, kind), measured in rows.items()
        for at_once, row in measured.items()
    ]


def _sweeps(evidence: Evidence) -> list[Block]:
    rows = [
        (
            ", ".join(f"{name} {value}" for name, value in row.changes.items())
            or "as the stack file has them",
            f"{row.workload.concurrency} at once, {row.workload.kind}",
            "best" if row.best else "",
            figures.significant(row.output_tokens_per_second),
            figures.significant((row.ttft_ms or {}).get("p99")),
            figures.significant((row.itl_ms or {}).get("p99")),
        )
        for kept in evidence.benches
        for row in kept.said.rows
        if kept.said.command == "sweep" and row.workload is not None
    ]
    if not rows:
        return []
    headings = ("Settings", "Request", "", "Tokens/s out", "TTFT p99, ms", "ITL p99, ms")
    return [Table("Settings tried by sweeps, on the machine that ran them", headings, rows, left=3)]
