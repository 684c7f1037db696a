"""Users, latency, failures, KV cache and queue over time: from the records of `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.report import figures
from ops.report.blocks import Chart, Charts, Line, Section, Table, Text
from ops.report.deployed import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.report.blocks import Block
    from ops.report.evidence import Evidence, Kept
    from ops.report.shapes import Load, LoadEngineSample, LoadSample

_HEADINGS = (
    "Endpoint",
    "Request",
    "Requests",
    "Failed",
    "Requests/s",
    "Tokens/s out",
    "Latency p50, ms",
    "p95, ms",
    "p99, ms",
    "TTFT p50, ms",
    "p99, ms",
)
_BUSY_PERCENT = 90.0
_X = "seconds since the first request"


def section(evidence: Evidence) -> Section:
    """Return the part."""
    if not evidence.loads:
        command = f"./berth load --stack {evidence.stack}"
        return Section("load", "Load over time", [Text(f"No load was put on it: `{command}`.", "missing")])
    blocks = _last(evidence.loads[-1])
    if len(evidence.loads) > 1:
        blocks.append(_all(evidence.loads))
    return Section("load", "Load over time", blocks)


def _last(kept: Kept[Load]) -> list[Block]:
    load = kept.said
    mix = f" Prompts: {load.mix.name} ({'; '.join(load.mix.parts)})." if load.mix else ""
    blocks: list[Block] = [
        Text(
            f"{load.users} users, all of them there after {figures.duration(load.ramp_seconds)}, for"
            f" {figures.duration(load.seconds)}; it ended at {figures.when(kept.at)}.{mix}"
        )
    ]
    if load.interrupted:
        blocks.append(Text("It was broken off: what follows is of the time before.", "warn"))
    blocks += [Text(problem, "bad") for problem in load.problems]
    if load.ok:
        blocks.append(Text("Every bound that was set for it holds.", "good"))
    busiest = max((sample.cpu_percent for sample in load.sender), default=0.0)
    if busiest >= _BUSY_PERCENT:
        blocks.append(
            Text(
                f"What sent the requests used {busiest:.0f}% of a processor: it may have been the limit.",
                "warn",
            )
        )
    charts = [chart for chart in _charts(load) if chart is not None]
    if charts:
        blocks.append(Charts(charts))
    if not load.engines:
        blocks.append(Text("vLLM's own figures were not read in this load.", "missing"))
    blocks += [
        Text(f"{CLOUDS.get(item.platform, item.platform)}: {item.problem} ({item.count} times)", "warn")
        for item in load.engine_problems
    ]
    blocks.append(Table("What came of the requests", _HEADINGS, _cells(load), left=2))
    return blocks


def _all(loads: list[Kept[Load]]) -> Table:
    rows = [
        (
            figures.when(kept.at),
            "yes" if kept.said.ok else "no",
            figures.number(kept.said.users),
            figures.number(sum(row.requests for row in kept.said.requests)),
            figures.number(sum(row.failed for row in kept.said.requests)),
        )
        for kept in loads
    ]
    headings = ("Ended", "Within its bounds", "Users", "Requests", "Failed")
    return Table("Every load; the last is shown above", headings, rows, left=2)


def _charts(load: Load) -> list[Chart | None]:
    return [
        _chart("Users", "users", _series(load, lambda sample: sample.users)),
        _chart("Requests", "requests/s", _series(load, lambda sample: sample.requests_per_second)),
        _chart(
            "Latency",
            "ms, of what ended in 2 s",
            [
                *_series(load, lambda sample: (sample.latency_ms or {}).get("p50"), " p50"),
                *_series(load, lambda sample: (sample.latency_ms or {}).get("p95"), " p95"),
            ],
        ),
        _chart(
            "Time to first token",
            "ms, of what ended in 2 s",
            [
                *_series(load, lambda sample: (sample.first_token_ms or {}).get("p50"), " p50"),
                *_series(load, lambda sample: (sample.first_token_ms or {}).get("p95"), " p95"),
            ],
        ),
        _chart("Failures", "failed requests/s", _series(load, lambda sample: sample.failures_per_second)),
        _chart("Output", "tokens/s", _series(load, lambda sample: sample.completion_tokens_per_second)),
        _chart(
            "KV cache in use",
            "% of the cache",
            _engines(load, lambda s: None if s.kv_cache_usage is None else s.kv_cache_usage * 100),
        ),
        _chart(
            "Running and waiting",
            "requests",
            [
                *_engines(load, lambda sample: sample.running, " running"),
                *_engines(load, lambda sample: sample.waiting, " waiting"),
            ],
        ),
    ]


def _series(load: Load, read: Callable[[LoadSample], float | None], which: str = "") -> list[Line]:
    return [
        Line(f"{CLOUDS.get(platform, platform)}{which}", [(item.seconds, read(item)) for item in samples])
        for platform, samples in load.series.items()
    ]


def _engines(load: Load, read: Callable[[LoadEngineSample], float | None], which: str = "") -> list[Line]:
    return [
        Line(
            f"{CLOUDS.get(item.platform, item.platform)}, {item.engine}{which}",
            [(sample.seconds, read(sample)) for sample in item.samples],
        )
        for item in load.engines
    ]


def _chart(title: str, y_label: str, lines: list[Line]) -> Chart | None:
    lines = [line for line in lines if any(y is not None for _, y in line.points)]
    return Chart(title, _X, y_label, lines) if lines else None


def _cells(load: Load) -> list[tuple[str, ...]]:
    def of(found: dict[str, float] | None, which: str) -> str:
        return figures.significant(found.get(which)) if found else figures.NONE

    return [
        (
            CLOUDS.get(row.platform, row.platform),
            row.kind,
            figures.number(row.requests),
            figures.number(row.failed),
            figures.significant(row.requests_per_second),
            figures.significant(row.completion_tokens_per_second),
            of(row.latency_ms, "p50"),
            of(row.latency_ms, "p95"),
            of(row.latency_ms, "p99"),
            of(row.first_token_ms, "p50"),
            of(row.first_token_ms, "p99"),
        )
        for row in load.requests
    ]
