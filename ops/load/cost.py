"""What the machines behind an endpoint cost an hour, before load is sent to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.plan import prices as price_list
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import Settings
    from ops.plan.prices import Prices


@dataclass(frozen=True)
class Cost:
    """The price of one endpoint's GPU machines.

    Args:
        platform: `eks` or `runpod`.
        what: the machines, for people.
        usd_per_hour_least: with as few of them as the stack file allows; None where a price is not known.
        usd_per_hour_most: with as many, which load may bring.
        source: where the prices are from.
    """

    platform: str
    what: str
    usd_per_hour_least: float | None
    usd_per_hour_most: float | None
    source: str

    def said(self) -> str:
        """Return it in a line for people."""
        least, most = self.usd_per_hour_least, self.usd_per_hour_most
        if least is None or most is None:
            return f"{self.what}: no price is known ({self.source})"
        price = f"${most:.2f}" if least == most else f"${least:.2f} to ${most:.2f}"
        return f"{self.what}: about {price} an hour ({self.source})"


def costs(settings: Settings, platforms: Iterable[str]) -> list[Cost]:
    """Return what each endpoint costs, by the table that ships; nothing of the stack `local`.

    Args:
        settings: the stack's.
        platforms: whose endpoints are asked.
    """
    if settings.stack == LOCAL:
        return []
    prices = price_list.read(settings.aws.region, instance_types=(), spot_types=(), offline=True)
    of = {"eks": _eks, "runpod": _runpod}
    return [of[platform](settings, prices) for platform in platforms]


def _eks(settings: Settings, prices: Prices) -> Cost:
    eks = settings.require_eks()
    least = most = 0.0
    what, unknown = [], False
    sources: dict[str, None] = {}
    for group in eks.gpu_node_groups.values():
        spot = group.capacity_type == "SPOT"
        sources[prices.sources["spot" if spot else "aws"]] = None
        known = [(prices.spot if spot else prices.instances).get(name) for name in group.instance_types]
        price = max((item for item in known if item is not None), default=None)
        fewest, largest = (group.min, group.max) if eks.cluster_autoscaler else (group.desired, group.desired)
        unknown |= price is None
        least += fewest * (price or 0.0)
        most += largest * (price or 0.0)
        count = str(largest) if fewest == largest else f"{fewest} to {largest}"
        what.append(f"{count} x {' or '.join(group.instance_types)}{' spot' if spot else ''}")
    machines, source = ", ".join(what), "; ".join(sources)
    if unknown:
        return Cost("eks", machines, None, None, source)
    return Cost("eks", machines, least, most, source)


def _runpod(settings: Settings, prices: Prices) -> Cost:
    runpod = settings.runpod
    if runpod is None:
        raise ValueError("the stack is not on RunPod")
    gpus = runpod.gpu_count or settings.serving.tensor_parallel_size
    known = [prices.pools.get(pool) for pool in runpod.gpu_pools]
    price = max((item for item in known if item is not None), default=None)
    fewest, largest = runpod.workers_min, runpod.workers_max
    count = str(largest) if fewest == largest else f"{fewest} to {largest}"
    return Cost(
        "runpod",
        f"{count} workers of {gpus} x {' or '.join(runpod.gpu_pools)}",
        None if price is None else fewest * gpus * price,
        None if price is None else largest * gpus * price,
        prices.sources["runpod"],
    )
