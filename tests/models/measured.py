"""Measures a real server as `berth bench` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.bench import matrix
from ops.bench.calls import Target, calls
from ops.bench.workload import Workload
from tests.models.served import KEY

if TYPE_CHECKING:
    from infra.settings import Task
    from tests.models.served import Served

REQUESTS = 6


def measured(served: Served, task: Task, **work: Any) -> dict[str, Any]:
    """Return the figures of a few requests, all of which must be answered."""
    rows: list[dict[str, Any]] = []
    matrix.run(
        Target(f"{str(served.http.base_url).rstrip('/')}/v1", KEY, served.name, task),
        [_workload(**work)],
        limit_seconds=60,
        capacity=lambda: None,
        report=lambda _: None,
        keep=rows.append,
    )
    [row] = rows
    assert (row["answered"], row["errors"]) == (row["workload"]["requests"], {}), row
    return row


def job_of(served: Served, task: Task, **work: Any) -> dict[str, Any]:
    """Return the input of the job that a queue is measured with."""
    target = Target("http://queue.invalid/v1", KEY, served.name, task, jobs="http://queue.invalid")
    call = next(calls(target, _workload(**work), "seed"))
    assert call.json is not None
    given: dict[str, Any] = call.json["input"]
    return given


def _workload(**work: Any) -> Workload:
    usual = {"concurrency": 2, "requests": REQUESTS, "batch_size": 1}
    return Workload(**{**usual, "prompt_tokens": (), "output_tokens": 0, "audio_seconds": 0, **work})
