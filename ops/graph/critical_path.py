"""The longest chain of waits in a stack's first `up`, from its graph and published durations.

Each resource takes as long as others have seen its kind take, or as estimated where nobody has said; each
step names which. A resource starts when all that it depends on is there, and any number go on at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.graph.order import dependencies

if TYPE_CHECKING:
    from ops.graph.record import Graph


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

JOBS = ("pulumi-python:dynamic/image:Build", "pulumi-python:dynamic/weights:Copy")
"""What needs no cluster, and goes on beside its making."""

OTHERS = Duration(0.1, "estimate: one call of an API, seconds")
"""What is made in seconds."""


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
    return OTHERS


def critical_path(
    recorded: Graph, *, made_before: tuple[str, ...] = (), last: str | None = None
) -> list[Step]:
    """Return the chain of resources that decides when one is there, in order.

    Args:
        recorded: the stack's graph.
        made_before: types that are there already, and so take no time.
        last: the URN of that one; the stack's last if None.
    """
    done: dict[str, float] = {}
    waited_for: dict[str, str | None] = {}
    # Registered in an order in which each comes after what it depends on.
    for urn, item in recorded.resources.items():
        before = dependencies(recorded, urn)
        latest = max(before, key=lambda needed: done[needed], default=None)
        waits = item.custom and item.type not in made_before
        takes = duration(item.type, item.name).minutes if waits else 0.0
        done[urn] = (done[latest] if latest else 0.0) + takes
        waited_for[urn] = latest
    chain: list[Step] = []
    current: str | None = last or max(done, key=lambda each: done[each])
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


def minutes(chain: list[Step]) -> float:
    """Return when a chain is at its end."""
    return chain[-1].starts + chain[-1].minutes
