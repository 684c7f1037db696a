"""Measures one endpoint at every cell of a matrix, one after the other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ops.bench.client import Measured, RefusedKeyError, measure
from ops.bench.figures import row
from ops.errors import OpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.bench.calls import Target
    from ops.bench.figures import Capacity
    from ops.bench.workload import Workload


def run(
    target: Target,
    workloads: Sequence[Workload],
    *,
    limit_seconds: float,
    capacity: Callable[[], Capacity | None],
    report: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Measure them; the rest is left out once the endpoint answers nothing.

    On Ctrl-C the row of the workload that was running is kept like the others, marked as not complete.

    Args:
        target: who is asked.
        workloads: what for.
        limit_seconds: how long one request may take.
        capacity: tells what has answered; asked after each workload, as platforms add servers under load.
        report: takes lines of progress.
        keep: takes each row of figures.

    Raises:
        OpsError: the endpoint does not take the key.
    """
    seed = secrets.token_hex(4)  # a second run must not find the first one's prompts in a prefix cache
    for left_out, workload in zip(reversed(range(len(workloads))), workloads, strict=True):
        measured = Measured()
        try:
            measure(target, workload, measured, seed=seed, limit_seconds=limit_seconds, report=report)
        except RefusedKeyError as error:
            raise OpsError(str(error)) from None
        finally:
            if measured.problem and left_out:
                measured.problem += f"; workloads left out: {left_out}"
            if measured.answers:
                keep(row(workload, measured, capacity()))
        if measured.problem:
            return
