"""Tries combinations of settings on this machine, and finds the best of them for each workload."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ops.bench import matrix
from ops.bench.combinations import combinations
from ops.bench.record import described
from ops.bench.server import NotStartedError, Server, this_machine
from ops.bench.words import settings_in_words
from ops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.settings import Settings
    from ops.bench.combinations import Combination
    from ops.bench.workload import Axes, Workload
    from ops.progress import Progress

_HERE = "this machine"


@dataclass(frozen=True)
class Bound:
    """What the best may not exceed.

    Args:
        ttft_p99_ms: of the time to the first token; None for any.
        itl_p99_ms: of the time between tokens; None for any.
    """

    ttft_p99_ms: float | None
    itl_p99_ms: float | None

    def __str__(self) -> str:
        said = {"TTFT p99": self.ttft_p99_ms, "ITL p99": self.itl_p99_ms}
        parts = [f"{name} at most {most:g} ms" for name, most in said.items() if most is not None]
        return " and ".join(parts) or "no bound on latency"

    def holds(self, row: dict[str, Any]) -> bool:
        """Say whether a row is within it, and all of its requests were answered."""
        if not row["answered"] or row["errors"] or not row["complete"]:
            return False
        return all(
            most is None or row[key] is None or row[key]["p99"] <= most
            for key, most in (("ttft_ms", self.ttft_p99_ms), ("itl_ms", self.itl_p99_ms))
        )


class Sweep:
    """One sweep.

    Args:
        settings: the stack's.
        given: the keys with their values, as on the command line.
        axes: what each combination is asked for.
        bound: what the best may not exceed.
        quiet: write nothing where there is no terminal.

    Attributes:
        document: the record; its rows are there as soon as they are measured.

    Raises:
        UsageError: an argument is wrong, or does not go with the stack's model.
        OpsError: a combination is none that a stack file could have, or this machine cannot serve.
    """

    def __init__(
        self, settings: Settings, given: Sequence[str], axes: Axes, bound: Bound, *, quiet: bool
    ) -> None:
        task = settings.model.task
        if settings.server is not None:
            raise UsageError(f"{settings.file}: berth:server: a sweep is of vLLM's settings alone")
        if task != "generate" and bound != Bound(None, None):
            raise UsageError(f"--ttft-p99-ms and --itl-p99-ms go with the task generate, and this is {task}")
        self._bound = bound
        self._tried: list[tuple[Combination, list[Workload]]] = [
            (item, axes.workloads(item.settings, mixed=True)) for item in combinations(settings.stack, given)
        ]
        self._machine = this_machine(settings, quiet=quiet)
        self.document: dict[str, Any] = {
            "command": "sweep",
            **described(settings),
            "bound": {"ttft_p99_ms": bound.ttft_p99_ms, "itl_p99_ms": bound.itl_p99_ms},
            "endpoints": {_HERE: {"gpu": str(self._machine)}},
            "ok": False,
            "rows": [],
        }

    def announcement(self) -> list[str]:
        """Say what is about to be tried."""
        requests = sum(work.all_requests for _, workloads in self._tried for work in workloads)
        tokens = sum(
            work.input_tokens + work.all_output_tokens for _, workloads in self._tried for work in workloads
        )
        starts = f"Starts vLLM {len(self._tried)} times on this machine ({self._machine})"
        lines = [
            f"{starts} and sends {requests:,} requests with {tokens:,} tokens in all.",
            f"The best has the highest throughput, with {self._bound}.",
        ]
        if not self._machine.gpus:
            lines.append("There is no GPU here: the figures say nothing about one.")
        return lines

    def measure(self, progress: Progress, *, request_limit_seconds: float) -> None:
        """Try every combination, and mark the best.

        Args:
            progress: shows how far it is.
            request_limit_seconds: how long one request may take.
        """
        rows: list[dict[str, Any]] = self.document["rows"]
        try:
            for number, (combination, workloads) in enumerate(self._tried, 1):
                part = f"{number} of {len(self._tried)}"
                report = partial(progress.report, part)
                report(settings_in_words(combination.changes))
                self._try(combination, workloads, request_limit_seconds, report)
        finally:
            best = mark_best(rows, self._bound)
        wanted = {str(workload.as_json()) for _, workloads in self._tried for workload in workloads}
        self.document["ok"] = len(best) == len(wanted)

    def _try(
        self,
        combination: Combination,
        workloads: list[Workload],
        limit_seconds: float,
        report: Callable[[str], None],
    ) -> None:
        def keep(row: dict[str, Any]) -> None:
            self.document["rows"].append({"changes": combination.changes, **row})

        with Server(combination.settings, self._machine, report) as server:
            try:
                target = server.start()
            except NotStartedError as error:
                keep({"problem": f"did not start: {error}", "answered": 0})
                return
            matrix.run(
                target,
                workloads,
                limit_seconds=limit_seconds,
                capacity=lambda: None,
                report=report,
                keep=keep,
            )


def mark_best(rows: Sequence[dict[str, Any]], bound: Bound) -> list[dict[str, Any]]:
    """Mark, of each workload, the row with the highest throughput within the bound, and return those.

    Args:
        rows: with the combinations of all workloads; each gets `within_bound`, the best ones `best`.
        bound: what they may not exceed.
    """
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "workload" not in row:
            continue
        row["within_bound"] = bound.holds(row)
        workload = str(row["workload"])
        if row["within_bound"] and _throughput(row) > _throughput(best.get(workload, {})):
            best[workload] = row
    for row in best.values():
        row["best"] = True
    return list(best.values())


def _throughput(row: dict[str, Any]) -> float:
    """Return tokens of answers a second, or inputs where nothing is generated."""
    return float(row.get("output_tokens_per_second") or row.get("inputs_per_second") or 0.0)
