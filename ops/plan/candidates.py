"""Every machine that could run the model: EC2's GPU types and RunPod's pools, each with fit and price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from infra.gpus import INSTANCE_GPUS
from infra.settings.runpod import GpuPool
from ops.plan import gpus, throughput
from ops.plan.memory import Fit, fit

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.plan.memory import Demand
    from ops.plan.prices import Prices
    from ops.plan.throughput import Load, Throughput

_SIZES = (1, 2, 4, 8)
_EKS, _RUNPOD = "eks", "runpod"


@dataclass(frozen=True)
class Candidate:
    """One kind of machine with as many replicas as it holds.

    Attributes:
        target: `eks` or `runpod`.
        name: the instance type or the pool.
        capacity: `ON_DEMAND`, `SPOT` or `SERVERLESS`.
        fit: how a replica lies in its GPUs; in a pool, in the one that is worst for it.
        replicas: on one machine.
        usd_per_hour: of one machine; None where no price is known.
        throughput: of one replica; None where it does not fit.
        chosen: whether the stack file names it.
    """

    target: str
    name: str
    capacity: str
    fit: Fit
    replicas: int
    usd_per_hour: float | None
    throughput: Throughput | None
    chosen: bool

    @property
    def usd_per_replica_hour(self) -> float | None:
        """The price of one replica's share of the machine."""
        return None if self.usd_per_hour is None else self.usd_per_hour / max(1, self.replicas)

    def usd_per_million_tokens(self, load: Load) -> float | None:
        """Return what a million tokens cost, prompts and answers together, with every batch full."""
        price = self.usd_per_replica_hour
        if price is None or self.throughput is None:
            return None
        return price / 3600 / (self.throughput.requests_per_second * load.tokens) * 1e6


def candidates(settings: Settings, demand: Demand, prices: Prices, load: Load) -> list[Candidate]:
    """Return all of them, those that fit first, and the cheapest of these for its tokens first.

    Args:
        settings: the stack's, which say what is chosen.
        demand: what it asks of a GPU.
        prices: of machines.
        load: what requests are like.
    """
    found = _instances(settings, demand, prices, load) + _pools(settings, demand, prices, load)

    def order(item: Candidate) -> tuple[bool, float, str, str]:
        cost = item.usd_per_million_tokens(load)
        return (not item.fit.fits, float("inf") if cost is None else cost, item.name, item.capacity)

    return sorted(found, key=order)


def _instances(settings: Settings, demand: Demand, prices: Prices, load: Load) -> list[Candidate]:
    groups = settings.eks.gpu_node_groups.values() if settings.eks and _EKS in settings.targets else ()
    chosen = {(name, group.capacity_type) for group in groups for name in group.instance_types}
    named = {name for name, _ in chosen}
    wanted = [(name, "ON_DEMAND") for name in INSTANCE_GPUS if name not in named] + sorted(chosen)
    found = []
    for name, capacity in wanted:
        count = INSTANCE_GPUS[name].count
        is_chosen = (name, capacity) in chosen
        parallel = settings.serving.tensor_parallel_size if is_chosen else None
        best = _best(demand, [gpus.of_instance(name)], count, parallel)
        found.append(
            Candidate(
                target=_EKS,
                name=name,
                capacity=capacity,
                fit=best,
                replicas=count // best.tensor_parallel_size,
                usd_per_hour=(prices.spot if capacity == "SPOT" else prices.instances).get(name),
                throughput=throughput.of(demand, best, load, settings.model.name),
                chosen=is_chosen,
            )
        )
    return found


def _pools(settings: Settings, demand: Demand, prices: Prices, load: Load) -> list[Candidate]:
    runpod = settings.runpod if _RUNPOD in settings.targets else None
    found = []
    for pool in get_args(GpuPool):
        is_chosen = runpod is not None and pool in runpod.gpu_pools
        types = gpus.of_pool(pool, runpod.excluded_gpu_types if runpod and is_chosen else ())
        if not types:
            continue  # the stack file takes all of them out
        parallel = settings.serving.tensor_parallel_size if is_chosen else None
        best = _best(demand, types, max(_SIZES), parallel)
        price = prices.pools.get(pool)
        served = [
            throughput.of(demand, fit(demand, gpu, best.tensor_parallel_size), load, settings.model.name)
            for gpu in types
        ]
        slowest = min(
            (item for item in served if item), key=lambda item: item.requests_per_second, default=None
        )
        found.append(
            Candidate(
                target=_RUNPOD,
                name=pool,
                capacity="SERVERLESS",
                fit=best,
                replicas=1,
                usd_per_hour=None if price is None else price * best.tensor_parallel_size,
                throughput=slowest if best.fits else None,
                chosen=is_chosen,
            )
        )
    return found


def _best(demand: Demand, types: list[gpus.Gpu], most: int, parallel: int | None) -> Fit:
    """Return the fit with the fewest GPUs, or with those that are set; of several types, the worst one's."""
    sizes = [parallel] if parallel else [size for size in _SIZES if size <= most]
    worst = [_worst([fit(demand, gpu, size) for gpu in types]) for size in sizes]
    return next((item for item in worst if item.fits), worst[-1])


def _worst(fits: list[Fit]) -> Fit:
    return min(fits, key=lambda item: (item.fits, item.cache_bytes))
