"""What a stack allows its image's scan to have found."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.settings.vocabulary import Allowed, Section


def _date(value: str) -> str:
    dt.date.fromisoformat(value)
    return value


IsoDate = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    AfterValidator(_date),
    Allowed("a date as year-month-day, such as 2027-01-31"),
]
VulnerabilityId = Annotated[
    str,
    Field(pattern=r"^[A-Z]{2,6}-[A-Za-z0-9-]{4,40}$"),
    Allowed("a vulnerability's id as the scan names it, such as CVE-2027-1234"),
]
Reason = Annotated[str, Field(min_length=1), Allowed("the reason, in words")]


class Allowance(Section):
    """A vulnerability that does not fail the scan until a day on which somebody has to look at it again."""

    id: VulnerabilityId
    until: IsoDate = Field(description="the last day on which it is allowed")
    reason: Reason


class ScanSettings(Section):
    """From which severity on a finding fails `berth scan`, and which findings are known and allowed."""

    fail_on: Literal["critical", "high", "medium", "low"] = "critical"
    allowed: Annotated[
        tuple[Allowance, ...], Allowed("a list of vulnerabilities, each with id, until and reason")
    ] = ()

    def problems(self) -> list[tuple[str, str]]:
        """Return vulnerabilities that are allowed more than once, where one could outlive the other."""
        ids = [each.id for each in self.allowed]
        return [
            ("allowed", f"names {known} more than once")
            for known in sorted({i for i in ids if ids.count(i) > 1})
        ]
