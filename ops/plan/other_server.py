"""The plan of a stack that somebody else's server serves: what its machines cost, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.plan import gpus
from ops.plan import prices as price_list

if TYPE_CHECKING:
    from infra.settings import Settings

PROBLEM = (
    "berth:server: memory and speed of somebody else's server are not estimated: whether the model fits is "
    "not known here"
)


def document(settings: Settings, *, offline: bool) -> dict[str, Any]:
    """Return what there is to say: the chosen machines with their prices.

    Args:
        settings: a stack's with a section `server`.
        offline: ask no cloud.
    """
    groups = settings.eks.gpu_node_groups.values() if settings.eks and "eks" in settings.targets else ()
    named = [(name, group.capacity_type) for group in groups for name in group.instance_types]
    names = [name for name, _ in named]
    spot = [name for name, capacity in named if capacity == "SPOT"]
    prices = price_list.read(settings.aws.region, instance_types=names, spot_types=spot, offline=offline)
    machines = [
        {
            "target": "eks",
            "name": name,
            "capacity": capacity,
            "gpu": gpus.of_instance(name).name,
            "usd_per_hour": (prices.spot if capacity == "SPOT" else prices.instances).get(name),
        }
        for name, capacity in named
    ]
    runpod = settings.runpod if "runpod" in settings.targets else None
    for pool in runpod.gpu_pools if runpod else ():
        types = gpus.of_pool(pool, runpod.excluded_gpu_types if runpod else ())
        machines.append(
            {
                "target": "runpod",
                "name": pool,
                "capacity": "SERVERLESS",
                "gpu": " or ".join(gpu.name for gpu in types),
                "usd_per_hour": round(prices.pools[pool] * settings.gpu_count, 5),
            }
        )
    return {
        "stack": settings.stack,
        "fits": None,
        "problems": [f"{settings.file}: {PROBLEM}"],
        "prices": {"region": prices.region, **prices.sources},
        "chosen": machines,
    }
