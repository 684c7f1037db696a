"""Makes one row of figures of what was seen of a workload."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.bench.client import Answer, Measured
    from ops.bench.workload import Workload

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Capacity:
    """What answered.

    Args:
        replicas: servers of the model.
        usd_per_hour: of all of them; None where no price is known.
    """

    replicas: int
    usd_per_hour: float | None


def row(workload: Workload, measured: Measured, capacity: Capacity | None) -> dict[str, Any]:
    """Return the figures of a workload, with their units in their names.

    Percentiles are of the requests that were answered, rates of the time from the first request to the last
    answer. `itl` is the time between two pieces of a stream: tokens, or several where the server is busy.
    `usd_per_million_tokens` is for tokens of prompts and answers together.

    Args:
        workload: what was asked for.
        measured: what was seen.
        capacity: what answered; None where that is not known.
    """
    answered = [answer for answer in measured.answers if not answer.error]
    failed = [answer for answer in measured.answers if answer.error]
    found: dict[str, Any] = {
        "workload": workload.as_json(),
        "complete": measured.is_complete,
        "answered": len(answered),
        "errors": dict(Counter(answer.error for answer in failed).most_common()),
        "error_details": {answer.error: answer.detail for answer in reversed(failed)},
    }
    if measured.problem:
        found["problem"] = measured.problem
    if capacity is not None:
        found |= {"replicas": capacity.replicas, "usd_per_hour": _rounded(capacity.usd_per_hour, 5)}
    if answered:
        found |= _rates(measured, answered, capacity)
        found["e2e_ms"] = _percentiles(answer.ended - answer.begun for answer in answered)
        streams = [answer for answer in answered if answer.pieces]
        if streams:
            found["ttft_ms"] = _percentiles(answer.pieces[0] - answer.begun for answer in streams)
            found["itl_ms"] = _percentiles(
                late - early for answer in streams for early, late in itertools.pairwise(answer.pieces)
            )
    return found


def _rates(measured: Measured, answered: Sequence[Answer], capacity: Capacity | None) -> dict[str, Any]:
    seconds = max(answer.ended for answer in measured.answers) - min(item.begun for item in measured.answers)
    tokens_in = sum(answer.prompt_tokens for answer in answered)
    tokens_out = sum(answer.output_tokens for answer in answered)
    found: dict[str, Any] = {
        "seconds": round(seconds, 3),
        "requests_per_second": round(len(answered) / seconds, 3),
        "inputs_per_second": round(sum(answer.inputs for answer in answered) / seconds, 3),
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "input_tokens_per_second": round(tokens_in / seconds, 2),
        "output_tokens_per_second": round(tokens_out / seconds, 2),
        # Close to 1, this client is what is measured.
        "client_cpu_share": round(measured.cpu_seconds / seconds, 3),
    }
    if capacity is not None and capacity.usd_per_hour is not None and tokens_in + tokens_out:
        cost = capacity.usd_per_hour / 3600 * seconds
        found["usd_per_million_tokens"] = round(cost / (tokens_in + tokens_out) * 1e6, 4)
    return found


def _percentiles(seconds: Iterable[float]) -> dict[str, float] | None:
    """Return milliseconds; None where there is nothing, as between the tokens of one-token answers."""
    values = list(seconds)
    if not values:
        return None
    cuts = statistics.quantiles(values * 2 if len(values) == 1 else values, n=100, method="inclusive")
    return {f"p{percent}": round(cuts[percent - 1] * 1e3, 2) for percent in PERCENTILES}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
