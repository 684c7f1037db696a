"""What must hold between the section `eks` and the others, and between the parts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.gpus import INSTANCE_GPUS
from infra.serving import shared_memory_gib
from infra.timing import LEAST_DRAIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings.eks import EksSettings
    from infra.settings.eks_nodes import GpuNodeSettings
    from infra.settings.model import ModelSettings
    from infra.settings.sections import ServingSettings

SPOT_DRAIN_LIMIT_SECONDS = 105  # AWS takes a spot machine 120 s after its notice; the rest is for the notice


def across(
    *,
    model: ModelSettings,
    gpus: tuple[str, int],
    serving: ServingSettings,
    eks: EksSettings,
    on_sandbox: bool,
) -> Iterator[tuple[str, str]]:
    """Yield problems, as pairs of dotted key and reason.

    Args:
        model: the section `model`.
        gpus: the GPUs of one replica, after the key that says it.
        serving: the section `serving`.
        eks: the section `eks`.
        on_sandbox: whether the clouds are those of this machine.
    """
    if serving.drain_seconds < LEAST_DRAIN_SECONDS:
        yield (
            "serving.drain_seconds",
            (
                f" = {serving.drain_seconds} must be {LEAST_DRAIN_SECONDS} or more with the target eks: so "
                "long it takes until the load balancer sends nothing more and the server has ended"
            ),
        )
    releases = {"eks.system_nodes": eks.system_nodes.release_version}
    for name, group in eks.gpu_node_groups.items():
        if group.operating_system == "AL2023":  # Bottlerocket's releases have numbers of their own
            releases[f"eks.gpu_node_groups.{name}"] = group.release_version
        yield from _group(f"eks.gpu_node_groups.{name}", group, gpus, serving, eks)
    for key, release in releases.items():
        if release is not None and not release.startswith(f"{eks.kubernetes_version}."):
            yield (
                f"{key}.release_version",
                f' = "{release}" is not of eks.kubernetes_version "{eks.kubernetes_version}"',
            )
    yield from _room(gpus, eks)
    if model.task == "classify" and not eks.load_balancer.internal:
        yield (
            "eks.load_balancer.internal",
            ' must be true with model.task "classify": vLLM asks no key at /classify',
        )
    if eks.autoscaling is not None and eks.monitoring is None:
        yield (
            "eks.autoscaling",
            (
                " needs eks.monitoring: replicas follow vLLM's queue and its time to the first token, which "
                "Prometheus knows; the cluster's own measure, CPU, says nothing about a GPU that is full"
            ),
        )
    if on_sandbox and eks.monitoring is not None:
        yield (
            "eks.monitoring",
            ": the sandbox has no registry of charts, and so neither Prometheus nor KEDA: leave it out",
        )
    if eks.s3_weights is not None and model.weights == "image":
        yield "eks.s3_weights", ' goes with model.weights "hub": the image brings them already'
    if eks.s3_weights is not None and model.adapters:
        yield (
            "eks.s3_weights",
            " does not go with model.adapters: they come from the hub, which no pod asks then",
        )
    shm_gib = shared_memory_gib(gpus[1])
    if eks.pod.memory_gib <= shm_gib:
        yield (
            "eks.pod.memory_gib",
            f" = {eks.pod.memory_gib} must be more than the {shm_gib} GiB of shared memory in it",
        )
    if on_sandbox and model.weights == "image":
        yield (
            "model.weights",
            ' = "image": must be "hub" on the sandbox, which does not execute the Dockerfile\'s RUN lines',
        )


def _group(
    key: str, group: GpuNodeSettings, gpus: tuple[str, int], serving: ServingSettings, eks: EksSettings
) -> Iterator[tuple[str, str]]:
    fewest = min(INSTANCE_GPUS[name].count for name in group.instance_types)
    if gpus[1] > fewest:
        yield (
            gpus[0],
            f" = {gpus[1]} is more than the GPUs of a node: {key}.instance_types have {fewest}",
        )
    if group.capacity_type == "SPOT" and serving.drain_seconds > SPOT_DRAIN_LIMIT_SECONDS:
        yield (
            "serving.drain_seconds",
            (
                f" = {serving.drain_seconds} must be {SPOT_DRAIN_LIMIT_SECONDS} or less on spot machines "
                f"({key}): AWS takes them 120 s after its notice"
            ),
        )
    existing = eks.network.existing
    zones = len(existing.node_subnet_ids) if existing else eks.network.zones
    if group.zone_index is not None and group.zone_index >= zones:
        yield f"{key}.zone_index", f" = {group.zone_index} must be below the number of zones, {zones}"


def _room(gpus: tuple[str, int], eks: EksSettings) -> Iterator[tuple[str, str]]:
    """Yield replicas that no machine would ever hold."""
    # Without the autoscaler nothing adds machines: those that `max` would still allow hold nothing.
    bound = "max" if eks.cluster_autoscaler else "desired"
    room = sum(
        getattr(group, bound) * (min(INSTANCE_GPUS[name].count for name in group.instance_types) // gpus[1])
        for group in eks.gpu_node_groups.values()
    )
    where = f"eks.gpu_node_groups with their {bound} hold {room}"
    key = "eks.autoscaling.max_replicas" if eks.autoscaling else "eks.replicas"
    if eks.most_replicas > room:
        yield (
            key,
            (f" = {eks.most_replicas} is more than fit: {where} with {gpus[0].rpartition('.')[2]} {gpus[1]}"),
        )
    elif eks.surge and eks.most_replicas + 1 > room:
        yield "eks.surge", f": needs room for one more than {key} = {eks.most_replicas}, and {where}"
