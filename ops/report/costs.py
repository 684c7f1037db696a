"""What it costs: a month as planned, and a million tokens as measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.report import figures
from ops.report.benched import rows_of
from ops.report.blocks import Section, Table, Text
from ops.report.deployed import CLOUDS
from ops.report.planned import HOURS_PER_DAY, REQUESTS_PER_HOUR
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from ops.plan.assembly import Plan
    from ops.report.blocks import Block
    from ops.report.evidence import Evidence
    from ops.report.planned import Planned

WAYS = {"eks": "EKS alone", "runpod": "RunPod alone", "mix": "EKS, and RunPod for the rest"}


def section(evidence: Evidence, found: Planned) -> Section:
    """Return the part."""
    blocks: list[Block] = []
    if evidence.stack == LOCAL:
        blocks.append(
            Text(
                "This stack costs nothing. The amounts are those of the machines that its file names; what a"
                " million tokens cost on them cannot be measured here.",
                "warn",
            )
        )
    if found.plan is None:
        blocks.append(Text(f"No month is planned: {found.problem}.", "warn"))
    else:
        blocks += _month(found.plan)
    # On processors a price of GPUs is no price.
    if evidence.stack != LOCAL:
        blocks += [*_benched(evidence), *_loaded(evidence)]
    return Section("cost", "Cost", blocks)


def _month(plan: Plan) -> list[Block]:
    load = plan.load
    rows = [
        (
            WAYS[item.way],
            ", ".join(f"{name} {figures.usd(cost, 0)}" for name, cost in item.parts.items()),
            figures.usd(item.usd, 0),
        )
        for item in plan.monthly
    ]
    title = (
        f"A month as planned: {REQUESTS_PER_HOUR:,.0f} requests an hour, {HOURS_PER_DAY:g} hours a day,"
        f" {load.prompt_tokens} tokens in and {load.output_tokens} out"
    )
    problems = [Text(f"{WAYS[item.way]}: {item.problem}", "warn") for item in plan.monthly if item.problem]
    return [Table(title, ("Way", "Of it", "USD"), rows, left=2), *problems]


def _benched(evidence: Evidence) -> list[Block]:
    rows = []
    for (platform, kind), measured in rows_of(evidence).items():
        priced = {at_once: row for at_once, row in measured.items() if row.usd_per_million_tokens is not None}
        if priced:
            at_once, best = min(priced.items(), key=lambda item: item[1].usd_per_million_tokens or 0)
            rows.append(
                (
                    CLOUDS.get(platform, platform),
                    kind,
                    figures.number(at_once),
                    figures.usd(best.usd_per_hour, 3),
                    figures.usd(best.usd_per_million_tokens, 3),
                )
            )
    if not rows:
        why = (
            "no prices are in its benchmarks"
            if evidence.benches
            else f"measured by `./berth bench --stack {evidence.stack}`"
        )
        return [Text(f"What a million tokens cost is not known: {why}.", "missing")]
    headings = ("Endpoint", "Request", "At once", "USD an hour", "USD")
    return [Table("A million tokens as measured, at the cheapest concurrency", headings, rows, left=2)]


def _loaded(evidence: Evidence) -> list[Block]:
    if not evidence.loads:
        return []
    load = evidence.loads[-1].said
    rows = []
    for cost in load.costs:
        tokens = sum(
            row.prompt_tokens + row.completion_tokens
            for row in load.requests
            if row.platform == cost.platform
        )
        hours = load.elapsed_seconds / 3600

        def per_million(hourly: float | None, hours: float = hours, tokens: int = tokens) -> str:
            return (
                figures.NONE
                if hourly is None or not tokens
                else figures.usd(hourly * hours / tokens * 1e6, 3)
            )

        rows.append(
            (
                CLOUDS.get(cost.platform, cost.platform),
                f"{cost.what} ({cost.source})",
                figures.number(tokens),
                per_million(cost.usd_per_hour_least),
                per_million(cost.usd_per_hour_most),
            )
        )
    if not rows:
        return []
    headings = ("Endpoint", "Machines", "Tokens", "USD, fewest machines", "USD, most")
    return [Table("A million tokens under the last load", headings, rows, left=2)]
