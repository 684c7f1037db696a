"""Puts a plan together: from a stack's settings to everything that `berth plan` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pulumi import RunError

from infra.gpus import INSTANCE_GPUS
from ops.errors import OpsError
from ops.graph.answers import ObligingCloud
from ops.graph.record import record
from ops.plan import prices as price_list
from ops.plan import public_model
from ops.plan.candidates import Candidate, candidates
from ops.plan.demand import demand, problems
from ops.plan.fixed_costs import fixed_costs
from ops.plan.monthly import Monthly, Profile, monthly
from ops.plan.throughput import Load
from ops.plan.timeline import Timeline, timelines
from ops.stacks import LOCAL, STACKS_FOLDER

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.graph.record import Graph
    from ops.plan.memory import Demand
    from ops.plan.prices import Prices
    from ops.plan.public_model import PublicModel


@dataclass(frozen=True)
class Plan:
    """All of it.

    Attributes:
        settings: the stack's.
        graph: the resources that the program registers for it.
        model: what is known of its model.
        demand: what a replica needs.
        load: what requests are like.
        profile: how many there are.
        candidates: every machine, the cheapest that fits first.
        prices: with where they are from.
        monthly: the ways to serve the load.
        timelines: to the first token, for each cloud; none for the stack `local`.
        problems: why what the stack file chose does not go; none if it does.
    """

    settings: Settings
    graph: Graph
    model: PublicModel
    demand: Demand
    load: Load
    profile: Profile
    candidates: list[Candidate]
    prices: Prices
    monthly: list[Monthly]
    timelines: list[Timeline]
    problems: list[str]

    @property
    def chosen(self) -> list[Candidate]:
        """The machines that the stack file names."""
        return [item for item in self.candidates if item.chosen]


def plan(settings: Settings, load: Load, profile: Profile, *, offline: bool) -> Plan:
    """Return the plan of a stack.

    Args:
        settings: the stack's.
        load: what requests are like.
        profile: how many there are.
        offline: ask neither a hub nor a cloud.

    Raises:
        OpsError: the model's configuration is not to be had, or its parameters cannot be counted.
    """
    model = public_model.read(settings.model.name, settings.model.revision, offline=offline)
    asked = demand(settings, model)
    groups = settings.eks.gpu_node_groups.values() if settings.eks else ()
    spot = [name for group in groups if group.capacity_type == "SPOT" for name in group.instance_types]
    system = settings.eks.system_nodes.instance_types if settings.eks else ()
    prices = price_list.read(
        settings.aws.region,
        instance_types=[*INSTANCE_GPUS, *system],
        spot_types=spot,
        offline=offline or settings.stack == LOCAL,  # its clouds have no price list
    )
    found = candidates(settings, asked, prices, load)
    chosen = [item for item in found if item.chosen]
    prices.notes += [
        f"no price of {item.name} is known: it is in no month's cost"
        for item in chosen
        if item.usd_per_hour is None
    ]
    graph = recorded_graph(settings)
    fixed = fixed_costs(settings, graph, prices) if "eks" in settings.targets else {}
    return Plan(
        settings=settings,
        graph=graph,
        model=model,
        demand=asked,
        load=load,
        profile=profile,
        candidates=found,
        prices=prices,
        monthly=monthly(settings, chosen, profile, prices, fixed),
        timelines=([] if settings.stack == LOCAL else timelines(settings, graph, asked.weights.total_bytes)),
        problems=[*problems(settings, asked), *_misfits(settings, chosen, found)],
    )


def _misfits(settings: Settings, chosen: list[Candidate], found: list[Candidate]) -> list[str]:
    said = []
    for item in chosen:
        if item.fit.fits:
            continue
        key = "eks.gpu_node_groups" if item.target == "eks" else "runpod.gpu_pools"
        better = next((other for other in found if other.target == item.target and other.fit.fits), None)
        advice = "" if better is None else f"; the cheapest that does is {better.name}"
        if better and better.fit.tensor_parallel_size != settings.serving.tensor_parallel_size:
            advice += f" with serving.tensor_parallel_size {better.fit.tensor_parallel_size}"
        said.append(
            f"{settings.file}: berth:{key}: {item.name} does not hold the model: {item.fit.problem}{advice}"
        )
    return said


def misfits(settings: Settings) -> list[str]:
    """Return why what a stack file chose does not go; none if it does.

    Raises:
        OpsError: the model's configuration is not to be had, or its parameters cannot be counted.
    """
    model = settings.model
    asked = demand(settings, public_model.read(model.name, model.revision, offline=False))
    prices = price_list.read(settings.aws.region, instance_types=(), spot_types=(), offline=True)
    load = Load.of(model.task, model.max_model_len, None, None)
    found = candidates(settings, asked, prices, load)
    chosen = [item for item in found if item.chosen]
    return [*problems(settings, asked), *_misfits(settings, chosen, found)]


def recorded_graph(settings: Settings) -> Graph:
    """Return the graph of a stack whose clouds have all that it names.

    Raises:
        OpsError: the program refuses the stack.
    """
    eks = settings.eks
    existing = eks.network.existing if eks else None
    cloud = ObligingCloud(eks.kubernetes_version if eks else "", existing.vpc_id if existing else "")
    try:
        return record(_configuration(settings), settings.stack, cloud=cloud)
    except RunError as error:
        raise OpsError(str(error)) from error


def _configuration(settings: Settings) -> dict[str, Any]:
    """Return the stack file's configuration; of secrets, that there are some."""
    path = STACKS_FOLDER / f"Pulumi.{settings.stack}.yaml"
    config = yaml.safe_load(path.read_text())["config"]
    return {
        key: "a-secret" if isinstance(value, dict) and list(value) == ["secure"] else value
        for key, value in config.items()
    }
