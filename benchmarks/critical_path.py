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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from tests.infra import graph  # noqa: E402  # the project is not installed
from tests.infra.destroy_order import dependencies  # noqa: E402

if TYPE_CHECKING:
    from tests.infra.graph import Graph


@dataclass(frozen=True)
class Duration:
    """How long one kind of resource takes to make.

    Attributes:
        minutes: how long.
        source: who has seen it, or "estimate" with the reasoning where no published one is known.
    """

    minutes: float
    source: str


_APPLY_LOG = "apply log in DevopsArtFactory/terraform-provisioning"
DURATIONS = {
    "aws:eks/cluster:Cluster": Duration(
        8.6, f"8m33s: {_APPLY_LOG}, pull request 47; the EKS user guide plans 15, end to end"
    ),
    "aws:eks/nodeGroup:NodeGroup": Duration(
        2.0, f"1m48s to 1m59s: {_APPLY_LOG}, pull request 46; GPU machines take longer to start"
    ),
    "aws:eks/addon:Addon": Duration(1.0, "estimate: a DaemonSet of small images, or two pods on ready nodes"),
    "aws:ec2/natGateway:NatGateway": Duration(2.0, "estimate: AWS says a few minutes and gives no number"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Duration(1.0, "estimate: interfaces and private DNS in each zone"),
    "aws:lb/loadBalancer:LoadBalancer": Duration(2.5, "2 to 3 minutes: EKS user guide"),
    "pulumi-python:dynamic/image:Build": Duration(
        15.0, "estimate: 9 to 12 GB of image pulled, and its new layers pushed, on a large CodeBuild machine"
    ),
    "pulumi-python:dynamic/weights:Copy": Duration(
        5.0, "estimate: 15 GiB from the hub at 100 MB/s, and into S3"
    ),
    "kubernetes:apps/v1:Deployment[model]": Duration(
        6.0,
        "estimate of published parts: 4 to 6 minutes for an image of 15 to 20 GB (AWS Machine Learning Blog "
        "on SOCI, June 2026) and 1 to the first answer (59 s: vllm-project/vllm issue 20264)",
    ),
    "kubernetes:helm.sh/v3:Release": Duration(2.0, "estimate: a handful of pods with public images"),
}
"""Type, with a part of the logical name where it matters -> how long; all others are made in seconds."""

_JOBS = ("pulumi-python:dynamic/image:Build", "pulumi-python:dynamic/weights:Copy")
"""What needs no cluster, and goes on beside its making."""

_OTHERS = Duration(0.1, "estimate: one call of an API, seconds")


@dataclass(frozen=True)
class Step:
    """One resource of the chain.

    Attributes:
        name: its logical name.
        type: its type.
        starts: minutes after the start of `up`.
        minutes: how long it takes.
        source: where that is from.
    """

    name: str
    type: str
    starts: float
    minutes: float
    source: str


def duration(type_: str, name: str) -> Duration:
    """Return how long a resource takes to make."""
    for key, found in DURATIONS.items():
        kind, _, part = key.rstrip("]").partition("[")
        if type_ == kind and part in name:
            return found
    return _OTHERS


def critical_path(recorded: Graph, *, made_before: tuple[str, ...] = ()) -> list[Step]:
    """Return the chain of resources that decides when the last one is there, in order.

    Args:
        recorded: the stack's graph.
        made_before: types that are there already, and so take no time.
    """
    done: dict[str, float] = {}
    waited_for: dict[str, str | None] = {}
    # Registered in an order in which each comes after what it depends on.
    for urn, item in recorded.resources.items():
        before = dependencies(recorded, urn)
        last = max(before, key=lambda needed: done[needed], default=None)
        waits = item.custom and item.type not in made_before
        takes = duration(item.type, item.name).minutes if waits else 0.0
        done[urn] = (done[last] if last else 0.0) + takes
        waited_for[urn] = last
    chain: list[Step] = []
    current: str | None = max(done, key=lambda each: done[each])
    while current is not None:
        item = recorded.resources[current]
        if item.custom and item.type not in made_before:
            took = duration(item.type, item.name)
            chain.append(
                Step(item.name, item.type, round(done[current] - took.minutes, 1), took.minutes, took.source)
            )
        current = waited_for[current]
    return chain[::-1]


def in_a_row(recorded: Graph) -> float:
    """Return the minutes if every resource waited for the one before it."""
    return sum(duration(item.type, item.name).minutes for item in recorded if item.custom)


def _minutes(chain: list[Step]) -> float:
    return chain[-1].starts + chain[-1].minutes


def _table(title: str, chain: list[Step]) -> Table:
    """Return a chain's long steps; those of seconds count in the times, and have no row."""
    table = Table("from", "minutes", "resource", "source", title=title, title_justify="left")
    for step in chain:
        if step.source != _OTHERS.source:
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
    total, row = _minutes(chain), in_a_row(recorded)
    jobs = {item.name: duration(item.type, item.name).minutes for item in recorded if item.type in _JOBS}
    without_jobs = critical_path(recorded, made_before=_JOBS)
    jobs_first = sum(jobs.values()) + _minutes(without_jobs)
    console = Console(width=110)
    for title, steps in (
        (f"`up` of {arguments.stack}: the longest chain", chain),
        ("the longest chain where image and weights are there already", without_jobs),
    ):
        console.print(_table(title, steps))
    console.print(f"{sum(item.custom for item in recorded)} resources. Minutes:")
    for minutes, what in (
        (total, "all that may go on at once does: the longest chain"),
        (_minutes(without_jobs), "the same where image and weights are there already"),
        (jobs_first, "image and weights made before the rest is begun"),
        (row, "one resource after the other"),
    ):
        console.print(f"  {minutes:5.1f}  {what}")
    record = {
        "stack": arguments.stack,
        "resources": sum(item.custom for item in recorded),
        "by_type": dict(sorted(Counter(item.type for item in recorded if item.custom).items())),
        "critical_path_minutes": round(total, 1),
        "in_a_row_minutes": round(row, 1),
        "jobs_minutes": jobs,
        "jobs_first_minutes": round(jobs_first, 1),
        "chain": [asdict(step) for step in chain],
        "jobs_there_minutes": round(_minutes(without_jobs), 1),
        "jobs_there_chain": [asdict(step) for step in without_jobs],
        "durations": {key: asdict(value) for key, value in {**DURATIONS, "all others": _OTHERS}.items()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
