"""What a stack costs a month at a given load: on EKS, on RunPod, and on both as the stack file has it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.plan.fixed_costs import HOURS_PER_MONTH

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.plan.candidates import Candidate
    from ops.plan.prices import Prices

_COLD_START_SECONDS = 180  # billed from the worker's start: weights and vLLM, the image being on the host


@dataclass(frozen=True)
class Profile:
    """The load of a month.

    Attributes:
        requests_per_hour: while there is load, one after another at random.
        hours_per_day: how long there is.
    """

    requests_per_hour: float
    hours_per_day: float

    @property
    def share(self) -> float:
        """Of the month, the share with load."""
        return self.hours_per_day / 24


@dataclass(frozen=True)
class Monthly:
    """One way to serve the load.

    Attributes:
        way: `eks`, `runpod` or `mix`.
        usd: a month.
        parts: of it, by what it is for.
        replicas: at work while there is load; of RunPod's, on average.
        problem: why it cannot serve the load; empty if it can.
    """

    way: str
    usd: float
    parts: dict[str, float]
    replicas: float
    problem: str = ""


def monthly(
    settings: Settings,
    chosen: list[Candidate],
    profile: Profile,
    prices: Prices,
    fixed: dict[str, float],
) -> list[Monthly]:
    """Return the ways that the stack's machines allow.

    Args:
        settings: the stack's.
        chosen: the machines that it names.
        profile: the load.
        prices: of what is not a machine.
        fixed: USD a month of the cluster's other parts.
    """
    found = []
    of_eks = [item for item in chosen if item.target == "eks"]
    of_runpod = [item for item in chosen if item.target == "runpod"]
    rate = profile.requests_per_hour / 3600
    eks = runpod = None
    if of_eks and (machine := _dearest(of_eks)):
        eks = _eks(settings, machine, rate, profile, prices, fixed)
        found.append(eks)
    if of_runpod and (pool := _dearest(of_runpod)):
        runpod = _runpod("runpod", settings, pool, rate, profile, prices)
        found.append(runpod)
    if eks and runpod and (machine := _dearest(of_eks)) and (pool := _dearest(of_runpod)):
        found.append(_mix(settings, machine, pool, rate, profile, prices, fixed))
    return found


def _dearest(items: list[Candidate]) -> Candidate | None:
    """Which of a group's types comes is the cloud's choice: the dearest is planned for."""
    priced = [item for item in items if item.throughput and item.usd_per_hour is not None]
    return max(priced, key=lambda item: item.usd_per_hour or 0.0, default=None)


def _eks(
    settings: Settings,
    machine: Candidate,
    rate: float,
    profile: Profile,
    prices: Prices,
    fixed: dict[str, float],
) -> Monthly:
    eks = settings.require_eks()
    least = eks.autoscaling.min_replicas if eks.autoscaling else eks.replicas
    needed = _needed(machine, rate)
    busy = min(max(needed, least), eks.most_replicas)
    cost = _machines(settings, machine, least, prices) * (1 - profile.share)
    cost += _machines(settings, machine, busy, prices) * profile.share
    problem = ""
    if needed > eks.most_replicas:
        problem = f"the load needs {needed} replicas, and the stack file allows {eks.most_replicas}"
    parts = {"GPU machines": round(cost, 2), **fixed}
    return Monthly("eks", round(sum(parts.values()), 2), parts, busy, problem)


def _needed(machine: Candidate, rate: float) -> int:
    served = machine.throughput.requests_per_second if machine.throughput else 0.0
    return max(1, math.ceil(rate / served)) if served else 1


def _machines(settings: Settings, machine: Candidate, replicas: int, prices: Prices) -> float:
    """Return a month of the machines for so many replicas, and of those that stay without one."""
    eks = settings.require_eks()
    count = math.ceil(replicas / machine.replicas)
    groups = eks.gpu_node_groups.values()
    count = max(count, sum(group.min if eks.cluster_autoscaler else group.desired for group in groups))
    disk = max(group.disk_gib for group in groups) * prices.monthly_parts["disk_gib"]
    return count * ((machine.usd_per_hour or 0.0) * HOURS_PER_MONTH + disk)


def _runpod(
    way: str, settings: Settings, pool: Candidate, rate: float, profile: Profile, prices: Prices
) -> Monthly:
    runpod = settings.runpod
    throughput = pool.throughput
    if runpod is None or throughput is None:
        raise ValueError("the stack is not on RunPod")
    load = rate / throughput.requests_per_second
    # Below one full worker: it is there from a request's start to the idle time after its end, and starts
    # anew for the next one that comes later than that. Requests come at random, one after another.
    alone = throughput.request_seconds / throughput.concurrency + runpod.idle_timeout_seconds
    missed = math.exp(-rate * alone)
    one = min(1.0, 1 - missed + rate * missed * _COLD_START_SECONDS)
    busy = max(runpod.workers_min, load if load > 1 else one)
    average = busy * profile.share + runpod.workers_min * (1 - profile.share)
    problem = ""
    if math.ceil(load) > runpod.workers_max:
        problem = f"the load needs {math.ceil(load)} workers, and the stack file allows {runpod.workers_max}"
        average = min(average, runpod.workers_max)
    volumes = sum(item.size_gib for item in runpod.volumes) * prices.monthly_parts["volume_gb"]
    parts = {"workers": round(average * (pool.usd_per_hour or 0.0) * HOURS_PER_MONTH, 2)}
    if volumes:
        parts["volumes"] = round(volumes, 2)
    return Monthly(way, round(sum(parts.values()), 2), parts, round(busy, 3), problem)


def _mix(
    settings: Settings,
    machine: Candidate,
    pool: Candidate,
    rate: float,
    profile: Profile,
    prices: Prices,
    fixed: dict[str, float],
) -> Monthly:
    """EKS with its fewest replicas serves what they can, RunPod the rest."""
    eks = settings.require_eks()
    least = eks.autoscaling.min_replicas if eks.autoscaling else eks.replicas
    served = least * (machine.throughput.requests_per_second if machine.throughput else 0.0)
    rest = max(0.0, rate - served)
    over = _runpod("mix", settings, pool, rest, profile, prices)
    base = _machines(settings, machine, least, prices)
    parts = {"GPU machines": round(base, 2), **fixed, **over.parts}
    return Monthly("mix", round(sum(parts.values()), 2), parts, least + over.replicas, over.problem)
