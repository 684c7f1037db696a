"""Puts a report together: from a stack's records and its plan to everything that is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.settings import PROJECT
from ops.report import benched, costs, deployed, failures, figures, loaded, planned, smoked, teardown
from ops.report.blocks import Facts, Report, Section, Table, Text, Tile

if TYPE_CHECKING:
    from ops.report.evidence import Evidence
    from ops.report.planned import Planned


def report(evidence: Evidence, plan: Planned) -> Report:
    """Return the report of a stack's last deployment.

    Args:
        evidence: its records.
        plan: its plan.
    """
    return Report(
        stack=evidence.stack,
        span=_span(evidence),
        verdict=teardown.verdict(evidence),
        tiles=_tiles(evidence, plan),
        made_at=figures.when(datetime.now(UTC)),
        sections=[
            deployed.section(evidence),
            planned.section(evidence, plan),
            smoked.section(evidence),
            benched.section(evidence),
            loaded.section(evidence),
            costs.section(evidence, plan),
            failures.section(evidence),
            teardown.section(evidence),
            _records(evidence),
        ],
    )


def _span(evidence: Evidence) -> str:
    files = evidence.files
    if not files:
        return "no records"
    begun = evidence.up.said.begun_at if evidence.up else files[0][0]
    return f"{figures.when(begun)} to {figures.when(files[-1][0])}"


def _tiles(evidence: Evidence, plan: Planned) -> list[Tile]:
    tiles = []
    if evidence.up is not None:
        up = evidence.up.said
        model = (up.settings.get(f"{PROJECT}:model") or {}).get("name", figures.NONE)
        tiles.append(Tile("Model", str(model).rpartition("/")[2], str(model).rpartition("/")[0]))
        count = "" if up.resources is None else f"{sum(up.resources.values())} resources"
        tiles.append(Tile("`up` took", figures.duration(up.duration_seconds), count))
    if evidence.smokes:
        checks = [check for endpoint in evidence.smokes[-1].said.endpoints for check in endpoint.checks]
        tiles.append(
            Tile("Smoke test", f"{sum(check.ok for check in checks)} of {len(checks)}", "checks hold")
        )
    measured = [
        (row.output_tokens_per_second or 0, at_once)
        for rows in benched.rows_of(evidence).values()
        for at_once, row in rows.items()
    ]
    if measured:
        best, at_once = max(measured)
        note = f"output tokens/s at {at_once} at once"
        tiles.append(Tile("Best throughput", figures.significant(best), note))
    if evidence.loads:
        load = evidence.loads[-1].said
        slowest = max((row.latency_ms["p95"] for row in load.requests if row.latency_ms), default=None)
        requests, failed = (sum(getattr(row, key) for row in load.requests) for key in ("requests", "failed"))
        tiles.append(Tile("p95 under load", f"{figures.significant(slowest)} ms", f"{load.users} users"))
        share = failed / requests if requests else None
        tiles.append(Tile("Failed requests", figures.percent(share), f"{failed:,} of {requests:,}"))
    if plan.plan is not None and plan.plan.monthly:
        cheapest = min(plan.plan.monthly, key=lambda item: item.usd)
        note = f"planned, {costs.WAYS[cheapest.way]}"
        tiles.append(Tile("A month", figures.usd(cheapest.usd, 0), note))
    return tiles


def _records(evidence: Evidence) -> Section:
    if not evidence.files:
        return Section("records", "Records", [Text("There is none.", "missing")])
    rows = [(figures.when(at), f"results/{evidence.stack}/{file}") for at, file in evidence.files]
    facts = [("Time", _span(evidence)), ("Of before it, and not in here", f"{evidence.older}")]
    return Section(
        "records", "Records", [Facts(facts), Table("What this is made of", ("Kept", "File"), rows, left=2)]
    )
