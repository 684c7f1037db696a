"""What was found, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Found:
    """An object in an account.

    Args:
        kind: what it is, in words ("NAT gateway").
        id: what its cloud calls it.
        place: its ARN, or its address in RunPod's API.
        names: texts in which the name of its owner may stand: its name, its description.
        tags: those that its cloud told with it.
        vpc: the id of the VPC it is in.
        role: the name of the IAM role that it holds.
        instance_type: of a machine, its type.
        hourly_usd: what it costs, use apart; None where that depends on what is in it or on its type.
        remove: the command that removes it; empty where none is known.
        going: when it goes by itself, for what is on its way out and costs nothing.
        part_of: what it goes with, which has been found too.
    """

    kind: str
    id: str
    place: str
    remove: str
    names: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    vpc: str | None = None
    role: str | None = None
    instance_type: str | None = None
    hourly_usd: float | None = 0.0
    going: str | None = None
    part_of: str | None = None


@dataclass(frozen=True)
class Unseen:
    """What could not be looked at.

    Args:
        what: in words ("NAT gateways", "RunPod").
        why: the refusal, on one line.
    """

    what: str
    why: str
