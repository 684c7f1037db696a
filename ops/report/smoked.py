"""Whether each endpoint did its job: from the last record of `smoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.report import figures
from ops.report.blocks import Section, Table, Text
from ops.report.deployed import CLOUDS

if TYPE_CHECKING:
    from ops.report.blocks import Block
    from ops.report.evidence import Evidence

_HEADINGS = ("Endpoint", "Check", "Holds", "First token, ms", "Latency, ms", "Tokens", "Tokens/s")


def section(evidence: Evidence) -> Section:
    """Return the part."""
    blocks: list[Block] = []
    if not evidence.smokes:
        command = f"./berth smoke --stack {evidence.stack}"
        blocks.append(Text(f"Nobody has asked the endpoints: `{command}`.", "missing"))
        return Section("smoke", "Smoke test", blocks)
    last = evidence.smokes[-1]
    holds = "Every check holds" if last.said.ok else "Not every check holds"
    before = len(evidence.smokes) - 1
    earlier = f"; {before} before it {'was' if before == 1 else 'were'} made too" if before else ""
    blocks.append(Text(f"{holds}, at {figures.when(last.at)}{earlier}.", "good" if last.said.ok else "bad"))
    rows = [
        (
            CLOUDS.get(endpoint.platform, endpoint.platform),
            check.name,
            "yes" if check.ok else "no",
            figures.milliseconds(check.first_token_seconds),
            figures.milliseconds(check.latency_seconds),
            figures.number(check.completion_tokens),
            figures.significant(check.tokens_per_second),
        )
        for endpoint in last.said.endpoints
        for check in endpoint.checks
    ]
    blocks.append(Table("What each endpoint was asked", _HEADINGS, rows, left=3))
    ready = {
        CLOUDS.get(endpoint.platform, endpoint.platform): figures.duration(endpoint.waited_seconds)
        for endpoint in last.said.endpoints
    }
    waited = [f"{where} was ready after {seconds}" for where, seconds in ready.items()]
    blocks.append(Text(f"{'; '.join(waited)}."))
    return Section("smoke", "Smoke test", blocks)
