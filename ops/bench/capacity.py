"""What stands behind an endpoint while it is measured: how many servers, on which GPUs, at what price."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from infra.gpus import INSTANCE_GPUS
from infra.settings import PROJECT
from ops.bench.figures import Capacity
from ops.errors import OpsError
from ops.plan import gpus
from ops.plan import prices as price_list
from ops.plan.candidates import candidates
from ops.plan.demand import demand
from ops.plan.public_model import read as read_model
from ops.plan.throughput import Load
from ops.runpod import Runpod
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.settings import Settings
    from ops.bench.workload import Workload
    from ops.endpoints import Endpoint
    from ops.plan.prices import Prices

# The pods of infra/eks/model_service.py.
_PODS = "app.kubernetes.io/name=model"
_LIMIT_SECONDS = 10.0
# An idle worker is one that waits for the next request, until its idle timeout.
_AT_WORK = ("RUNNING", "IDLE")


@dataclass(frozen=True)
class Price:
    """What a server of the model costs on one platform.

    Args:
        machine: the instance type or the pool; of several the dearest, as the cloud chooses.
        billing: `on demand`, `spot` or `serverless`.
        gpu: the GPU's name.
        gpus: of one server.
        usd_per_gpu_hour: of a machine with several GPUs, one's share; None where no price is known.
        source: where the price is from.
    """

    machine: str
    billing: str
    gpu: str
    gpus: int
    usd_per_gpu_hour: float | None
    source: str

    def __str__(self) -> str:
        price = "no price is known" if self.usd_per_gpu_hour is None else f"${self.usd_per_gpu_hour:.3f}"
        return (
            f"{self.gpus} × {self.gpu} a server, {self.machine} {self.billing}, {price} a GPU and hour"
            f" ({self.source})"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)

    def of(self, replicas: int) -> Capacity:
        """Return what so many servers cost."""
        if self.usd_per_gpu_hour is None:
            return Capacity(replicas, None)
        return Capacity(replicas, self.usd_per_gpu_hour * self.gpus * replicas)


def price_of(settings: Settings, platform: str, prices: Prices) -> Price:
    """Return what a server of the stack costs on a platform.

    Args:
        settings: the stack's.
        platform: `eks` or `runpod`.
        prices: of machines.
    """
    if platform == "eks":
        return max(
            (
                _of_instance(name, group.capacity_type, settings.gpu_count, prices)
                for group in settings.require_eks().gpu_node_groups.values()
                for name in group.instance_types
            ),
            key=_dearness,
        )
    runpod = settings.require_runpod()
    return max(
        (
            Price(
                pool,
                "serverless",
                " or ".join(gpu.name for gpu in gpus.of_pool(pool, runpod.excluded_gpu_types)),
                settings.gpu_count,
                prices.pools.get(pool),
                prices.sources["runpod"],
            )
            for pool in runpod.gpu_pools
        ),
        key=_dearness,
    )


def _dearness(price: Price) -> float:
    return price.usd_per_gpu_hour or 0.0


def _of_instance(name: str, capacity: str, count: int, prices: Prices) -> Price:
    is_spot = capacity == "SPOT"
    price = (prices.spot if is_spot else prices.instances).get(name)
    return Price(
        name,
        "spot" if is_spot else "on demand",
        gpus.of_instance(name).name,
        count,
        None if price is None else price / INSTANCE_GPUS[name].count,
        prices.sources["spot" if is_spot else "aws"],
    )


def prices_of(settings: Settings) -> Prices:
    """Return the prices of the stack's machines."""
    groups = settings.eks.gpu_node_groups.values() if settings.eks and "eks" in settings.targets else ()
    named = [(name, group.capacity_type) for group in groups for name in group.instance_types]
    return price_list.read(
        settings.aws.region,
        instance_types=[name for name, _ in named],
        spot_types=[name for name, capacity in named if capacity == "SPOT"],
        offline=settings.stack == LOCAL,  # its clouds have no price list
    )


def estimated_seconds(
    settings: Settings, platform: str, price: Price, prices: Prices, workloads: Sequence[Workload]
) -> float | None:
    """Return how long a server of the stack's takes for it, by the plan's throughput; None if it knows none.

    Args:
        settings: the stack's.
        platform: whose machine it is.
        price: the machine.
        prices: of machines.
        workloads: what it is asked for.
    """
    if settings.server is not None or settings.model.task == "transcribe":
        return None
    try:
        asked = demand(
            settings,
            read_model(settings.model.name, settings.model.revision, offline=settings.stack == LOCAL),
        )
    except OpsError:
        return None
    seconds = 0.0
    for workload in workloads:
        at_once = workload.concurrency * workload.batch_size
        most = min(at_once, asked.max_num_seqs or at_once)
        load = Load(sum(workload.prompt_tokens) // len(workload.prompt_tokens), workload.output_tokens)
        found = candidates(settings, replace(asked, max_num_seqs=most), prices, load)
        machine = next(
            (item for item in found if (item.target, item.name) == (platform, price.machine)), None
        )
        if machine is None or machine.throughput is None:
            return None
        seconds += workload.requests * workload.batch_size / machine.throughput.requests_per_second
    return seconds


class Counter:
    """Counts the servers behind an endpoint.

    Args:
        endpoint: which.
        runpod_api: the base URL of RunPod's REST API, up to and with `/v2`.
        environment: the variables under which the kubeconfig's own command works.
        kubeconfig: the cluster's kubeconfig, for an endpoint on EKS.
    """

    def __init__(
        self, endpoint: Endpoint, runpod_api: str, environment: Mapping[str, str], kubeconfig: str | None
    ) -> None:
        self._endpoint = endpoint
        self._runpod_api = runpod_api
        self._environment = environment
        self._kubeconfig = kubeconfig

    def replicas(self) -> int | None:
        """Return how many are at work; None where the platform does not tell."""
        if self._endpoint.platform == "runpod":
            try:
                workers = Runpod(self._runpod_api, self._endpoint).workers()["workers"]
            except OpsError:
                return None
            return sum(worker["status"] in _AT_WORK for worker in workers)
        if self._kubeconfig is None:
            return None
        # Half a second of imports that an endpoint on RunPod does not need.
        from ops.cluster import ERRORS, core_api  # noqa: PLC0415

        try:
            pods = (
                core_api(self._kubeconfig, self._environment)
                .list_namespaced_pod(PROJECT, label_selector=_PODS, _request_timeout=_LIMIT_SECONDS)
                .items
            )
        except ERRORS:
            return None
        return sum(_is_ready(pod) for pod in pods)


def _is_ready(pod: Any) -> bool:
    return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])
