"""The longest chain of waits in a stack's first `up`, from its graph and published durations.

    python benchmarks/critical_path.py --stack prod --output benchmarks/results/critical_path_prod.json

Nothing is deployed: the program runs against a monitor that records, and each resource takes as long as
others have seen its kind take, or as estimated where nobody has said; the record names which. A resource
starts when all that it depends on is there, and any number go on at once. Not counted is the start of a
machine that the autoscaler brings for a pod (stack dev).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from ops.graph.critical_path import (  # noqa: E402  # the project is not installed
    DURATIONS,
    JOBS,
    OTHERS,
    Step,
    critical_path,
    duration,
    in_a_row,
    minutes,
)
from tests.infra import graph  # noqa: E402


def _table(title: str, chain: list[Step]) -> Table:
    """Return a chain's long steps; those of seconds count in the times, and have no row."""
    table = Table("from", "minutes", "resource", "source", title=title, title_justify="left")
    for step in chain:
        if step.source != OTHERS.source:
            table.add_row(f"{step.starts:.1f}", f"{step.minutes:.1f}", step.name, step.source)
    return table


def main() -> int:
    """Print the chain and what is saved, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", choices=graph.STACKS, default="prod")
    parser.add_argument("--output", type=Path, required=True, help="where the record is written")
    arguments = parser.parse_args()
    recorded = graph.run(arguments.stack, preview=False)
    chain = critical_path(recorded)
    total, row = minutes(chain), in_a_row(recorded)
    jobs = {item.name: duration(item.type, item.name).minutes for item in recorded if item.type in JOBS}
    without_jobs = critical_path(recorded, made_before=JOBS)
    jobs_first = sum(jobs.values()) + minutes(without_jobs)
    console = Console(width=110)
    for title, steps in (
        (f"`up` of {arguments.stack}: the longest chain", chain),
        ("the longest chain where image and weights are there already", without_jobs),
    ):
        console.print(_table(title, steps))
    console.print(f"{sum(item.custom for item in recorded)} resources. Minutes:")
    for time, what in (
        (total, "all that may go on at once does: the longest chain"),
        (minutes(without_jobs), "the same where image and weights are there already"),
        (jobs_first, "image and weights made before the rest is begun"),
        (row, "one resource after the other"),
    ):
        console.print(f"  {time:5.1f}  {what}")
    record = {
        "stack": arguments.stack,
        "resources": sum(item.custom for item in recorded),
        "by_type": dict(sorted(Counter(item.type for item in recorded if item.custom).items())),
        "critical_path_minutes": round(total, 1),
        "in_a_row_minutes": round(row, 1),
        "jobs_minutes": jobs,
        "jobs_first_minutes": round(jobs_first, 1),
        "chain": [asdict(step) for step in chain],
        "jobs_there_minutes": round(minutes(without_jobs), 1),
        "jobs_there_chain": [asdict(step) for step in without_jobs],
        "durations": {key: asdict(value) for key, value in {**DURATIONS, "all others": OTHERS}.items()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
