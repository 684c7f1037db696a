"""The longest chain of waits in a stack's first `up`, from its graph and published durations.

    python benchmarks/critical_path.py --stack prod --output benchmarks/results/critical_path_prod.json

Nothing is deployed: the program runs against a monitor that records, and each resource takes as long as
others have seen its kind take. A resource starts when all that it depends on is there, and any number go on
at once.
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
        source: who has seen it, or "assumed" with the reasoning where nobody has published it.
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
    "aws:eks/addon:Addon": Duration(1.0, "assumed: a DaemonSet of small images, or two pods on ready nodes"),
    "aws:ec2/natGateway:NatGateway": Duration(2.0, "assumed: AWS says a few minutes and gives no number"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Duration(1.0, "assumed: interfaces and private DNS in each zone"),
    "aws:lb/loadBalancer:LoadBalancer": Duration(2.5, "2 to 3 minutes: EKS user guide"),
    "pulumi-python:dynamic/image:Build": Duration(
        15.0, "assumed: 9 to 12 GB of image pulled, and its new layers pushed, on a large CodeBuild machine"
    ),
    "pulumi-python:dynamic/weights:Copy": Duration(
        5.0, "assumed: 15 GiB from the hub at 100 MB/s, and into S3"
    ),
    "kubernetes:apps/v1:Deployment[model]": Duration(
        6.0,
        "4 to 6 minutes of image pull (AWS Deep Learning AMI post, June 2026) and 1 of start "
        "(59 s to the first answer: vllm-project/vllm issue 20264)",
    ),
    "kubernetes:helm.sh/v3:Release": Duration(2.0, "assumed: a handful of pods with public images"),
}
"""Type, with a part of the logical name where it matters -> how long; all others are made in seconds."""

_JOBS = ("pulumi-python:dynamic/image:Build", "pulumi-python:dynamic/weights:Copy")
"""What needs no cluster, and goes on beside its making."""

_OTHERS = Duration(0.1, "assumed: one call of an API, seconds")


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
    urn: str | None = max(done, key=lambda each: done[each])
    while urn is not None:
        item = recorded.resources[urn]
        if item.custom and item.type not in made_before:
            took = duration(item.type, item.name)
            chain.append(
                Step(item.name, item.type, round(done[urn] - took.minutes, 1), took.minutes, took.source)
            )
        urn = waited_for[urn]
    return chain[::-1]


def in_a_row(recorded: Graph) -> float:
    """Return the minutes if every resource waited for the one before it."""
    return sum(duration(item.type, item.name).minutes for item in recorded if item.custom)


def _minutes(chain: list[Step]) -> float:
    return chain[-1].starts + chain[-1].minutes


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
    jobs_first = sum(jobs.values()) + _minutes(critical_path(recorded, made_before=_JOBS))
    table = Table("starts", "minutes", "resource", "source", title=f"`up` of {arguments.stack}")
    for step in chain:
        if step.source != _OTHERS.source:
            table.add_row(f"{step.starts:.1f}", f"{step.minutes:.1f}", step.name, step.source)
    console = Console()
    console.print(table)
    console.print(
        f"{sum(item.custom for item in recorded)} resources; the longest chain takes {total:.1f} minutes, "
        f"{jobs_first:.1f} with image and weights made before the rest, {row:.1f} all in a row"
    )
    record = {
        "stack": arguments.stack,
        "resources": sum(item.custom for item in recorded),
        "by_type": dict(sorted(Counter(item.type for item in recorded if item.custom).items())),
        "critical_path_minutes": round(total, 1),
        "in_a_row_minutes": round(row, 1),
        "jobs_minutes": jobs,
        "jobs_first_minutes": round(jobs_first, 1),
        "chain": [asdict(step) for step in chain],
        "durations": {key: asdict(value) for key, value in {**DURATIONS, "all others": _OTHERS}.items()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
