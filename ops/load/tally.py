"""Counts what came of the requests of a load: as a whole, and in each interval for the series over time."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.load.asking import Answered, FailedError


@dataclass
class _Row:
    """One kind of request at one endpoint."""

    seconds: array[float] = field(default_factory=lambda: array("d"))
    first_token_seconds: array[float] = field(default_factory=lambda: array("d"))
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answered(self, answer: Answered) -> None:
        self.seconds.append(answer.seconds)
        if answer.first_token_seconds is not None:
            self.first_token_seconds.append(answer.first_token_seconds)
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    def failed(self, failure: FailedError) -> None:
        # One of the details is enough: they may be as many as the requests.
        counted = self.failures.setdefault(failure.kind, {"count": 0, "example": failure.detail})
        counted["count"] += 1

    @property
    def failed_count(self) -> int:
        return sum(counted["count"] for counted in self.failures.values())


class Tally:
    """What came of all requests.

    Args:
        platforms: whom is asked.
    """

    def __init__(self, platforms: Iterable[str]) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._interval = {platform: _Row() for platform in platforms}

    def answered(self, platform: str, answer: Answered) -> None:
        """Count a right answer."""
        self._row(platform, answer.kind).answered(answer)
        self._interval[platform].answered(answer)

    def failed(self, platform: str, kind: str, failure: FailedError) -> None:
        """Count a request without one."""
        self._row(platform, kind).failed(failure)
        self._interval[platform].failed(failure)

    def take_interval(self, seconds: float) -> dict[str, dict[str, Any]]:
        """Return what has ended since the last time, by platform.

        Args:
            seconds: how long that was.
        """
        taken, self._interval = self._interval, {platform: _Row() for platform in self._interval}
        return {
            platform: {
                "requests_per_second": round((len(row.seconds) + row.failed_count) / seconds, 3),
                "failures_per_second": round(row.failed_count / seconds, 3),
                "completion_tokens_per_second": round(row.completion_tokens / seconds, 2),
                "latency_ms": percentiles(row.seconds, (50, 95)),
                "first_token_ms": percentiles(row.first_token_seconds, (50, 95)),
            }
            for platform, row in taken.items()
        }

    def rows(self, seconds: float) -> list[dict[str, Any]]:
        """Return what each endpoint did with each kind of request.

        Args:
            seconds: from the first request to the last answer.
        """
        return [
            {
                "platform": platform,
                "kind": kind,
                "requests": len(row.seconds) + row.failed_count,
                "failed": row.failed_count,
                "failures": row.failures,
                "requests_per_second": round((len(row.seconds) + row.failed_count) / seconds, 3),
                "latency_ms": percentiles(row.seconds, (50, 95, 99)),
                "first_token_ms": percentiles(row.first_token_seconds, (50, 99)),
                "prompt_tokens": row.prompt_tokens,
                "completion_tokens": row.completion_tokens,
                "completion_tokens_per_second": round(row.completion_tokens / seconds, 2),
            }
            for (platform, kind), row in sorted(self._rows.items())
        ]

    def _row(self, platform: str, kind: str) -> _Row:
        return self._rows.setdefault((platform, kind), _Row())


def percentiles(seconds: Sequence[float], wanted: Sequence[int]) -> dict[str, float] | None:
    """Return percentiles in milliseconds, each a value that was measured; None where nothing was.

    Args:
        seconds: what was measured.
        wanted: which, from 1 to 99.
    """
    if not seconds:
        return None
    ordered = sorted(seconds)
    # The smallest value that so many per cent do not exceed.
    return {
        f"p{per_cent}": round(ordered[-(-len(ordered) * per_cent // 100) - 1] * 1000, 1)
        for per_cent in wanted
    }
