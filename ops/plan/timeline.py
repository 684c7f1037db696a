"""Time to the first token after `up`, for each cloud: the longest chain in its graph, then a start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.graph.critical_path import OTHERS, Duration, Step, critical_path, minutes

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.graph.record import Graph

_DEPLOYMENT = "kubernetes:apps/v1:Deployment"
_MODEL = "model"
_ENDPOINT = "pulumi-python:dynamic/runpod:Endpoint"
_PULL_GB_PER_SECOND = 0.05  # a host's first pull: 10 GB in 200 s
_IMAGE_GB = 10.0
_HUB_GB_PER_SECOND = 0.1
_START_MINUTES = 117 / 60
_AUTOSCALED = Duration(
    3.0, "estimate: the autoscaler sees the pod within seconds, and a GPU machine joins in 2 to 4 minutes"
)


@dataclass(frozen=True)
class Timeline:
    """The way to the first token on one cloud.

    Attributes:
        target: `eks` or `runpod`.
        steps: in order; those of seconds are left out, and count in the starts of the others.
        minutes: when the first token is there.
    """

    target: str
    steps: tuple[Step, ...]
    minutes: float


def timelines(settings: Settings, graph: Graph, weights_bytes: float) -> list[Timeline]:
    """Return the way to the first token on each of the stack's clouds.

    Args:
        settings: the stack's.
        graph: its recorded graph.
        weights_bytes: of the model, which a machine without them fetches.
    """
    found = []
    if "eks" in settings.targets:
        found.append(_eks(settings, graph))
    if "runpod" in settings.targets:
        chain = critical_path(graph, last=_urn(graph, _ENDPOINT, ""))
        found.append(_timeline("runpod", chain, _cold_start(settings, weights_bytes)))
    return found


def _urn(graph: Graph, type_: str, part: str) -> str:
    return next(item.urn for item in graph if item.type == type_ and part in item.name)


def _eks(settings: Settings, graph: Graph) -> Timeline:
    """The pod is the last of the chain; where no machine is there for it, it waits for one first."""
    chain = critical_path(graph, last=_urn(graph, _DEPLOYMENT, _MODEL))
    groups = settings.require_eks().gpu_node_groups.values()
    if all(group.desired for group in groups):
        return _timeline("eks", chain, [])
    pod = chain.pop()
    after = [("the autoscaler's machine", _AUTOSCALED), (pod.name, Duration(pod.minutes, pod.source))]
    return _timeline("eks", chain, after)


def _timeline(target: str, chain: list[Step], after: list[tuple[str, Duration]]) -> Timeline:
    now = minutes(chain)
    steps = [step for step in chain if step.source != OTHERS.source]
    for name, takes in after:
        steps.append(Step(name, "", round(now, 1), round(takes.minutes, 1), takes.source))
        now += takes.minutes
    return Timeline(target, tuple(steps), round(now, 1))


def _cold_start(settings: Settings, weights_bytes: float) -> list[tuple[str, Duration]]:
    """A first worker: RunPod's hosts have neither the image nor the weights."""
    steps = [
        (
            "a worker's image",
            Duration(
                _IMAGE_GB / _PULL_GB_PER_SECOND / 60,
                f"estimate: {_IMAGE_GB:.0f} GB at {_PULL_GB_PER_SECOND * 1000:.0f} MB/s; hosts keep it",
            ),
        )
    ]
    if settings.model.weights == "hub":
        steps.append(
            (
                "a worker's weights",
                Duration(
                    weights_bytes / 1e9 / _HUB_GB_PER_SECOND / 60,
                    f"estimate: {weights_bytes / 1e9:.0f} GB from the hub at "
                    f"{_HUB_GB_PER_SECOND * 1000:.0f} MB/s",
                ),
            )
        )
    started = "measured on an H200 with nothing cached: imports, compilation, graphs; a third with caches"
    return [*steps, ("vLLM's start", Duration(_START_MINUTES, started))]
