"""The parts of a deployment that its pages and its picture name, and which resources are of which part."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from ops.graph.order import dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.graph.record import Graph, Recorded


@dataclass(frozen=True)
class Part:
    """A part of the deployment.

    Attributes:
        title: what it is.
        holds: what is in it, in a few words.
        members: logical names, or beginnings of them, of its components and of resources outside of any.
        zone: where it is drawn: in `AWS`, in `Kubernetes`, which is inside of AWS, or in `RunPod`.
        column: of the picture's grid, from 0.
        row: of the picture's grid, from 0.
    """

    title: str
    holds: str
    members: tuple[str, ...]
    zone: str = ""
    column: int = 0
    row: int = 0


# A component is where its resources stand in the graph. Add-ons that machines need to join are with the
# machines, and the log group that the network waits for is by itself, or the parts would wait in a circle.
PARTS = (
    Part("This machine's clouds", "AWS, Kubernetes, RunPod", ("sandbox",)),
    Part("Log group, budget", "made first", ("control-plane-logs", "budget"), "AWS", 1, 3),
    Part("Image", "ECR and its build", ("registry", "image"), "AWS", 0, 0),
    Part("Network", "VPC, subnets, NAT", ("network",), "AWS", 2, 3),
    Part("EKS control plane", "roles, key, access", ("cluster",), "AWS", 3, 3),
    Part("Machines", "node groups, CNI", ("nodes", "node-addons", "interfaces"), "AWS", 3, 2),
    Part("Load balancer", "ALB, rules, targets", ("load-balancer",), "AWS", 2, 2),
    Part("Weights", "a bucket, copied once", ("weights",), "AWS", 1, 2),
    Part("Add-ons", "DNS, metrics, GPUs", ("cluster-addons", "device-plugin"), "Kubernetes", 3, 1),
    Part("Cluster Autoscaler", "machines by need", ("cluster-autoscaler",), "Kubernetes", 2, 1),
    Part("Monitoring", "Prometheus, Grafana", ("monitoring", "grafana-password"), "Kubernetes", 2, 0),
    Part("Model service", "vLLM pods, their key", ("model", "api-key"), "Kubernetes", 1, 0),
    Part("KEDA", "replicas by load", ("scaling",), "Kubernetes", 1, 1),
    Part(
        "Access to the image",
        "delegation, or a login",
        ("runpod-ecr-delegation", "runpod-registry"),
        "RunPod",
        0,
        4,
    ),
    Part("Volumes", "weights between workers", ("runpod-volume",), "RunPod", 2, 4),
    Part("Endpoint", "vLLM workers", ("runpod-marker", "runpod-endpoint"), "RunPod", 1, 4),
)
PROVIDERS = Part("Providers", "how the program reaches its clouds", ())
"""All wait for them, and they make nothing."""


def parts_of(graph: Graph) -> dict[str, Part]:
    """Return the part of each resource, components aside, by URN.

    Raises:
        LookupError: a resource is of no part: PARTS lacks it.
    """
    return {item.urn: _part(graph, item) for item in graph if item.custom}


def _part(graph: Graph, item: Recorded) -> Part:
    if item.type.startswith("pulumi:providers:"):
        return PROVIDERS
    top = item
    while top.parent in graph.resources and graph.resources[top.parent].type != "pulumi:pulumi:Stack":
        top = graph.resources[top.parent]
    found = [part for part in PARTS if top.name in part.members]
    # The component of RunPod has parts that belong to different ones.
    found += [part for part in PARTS if item.name.startswith(part.members)]
    if found:
        return found[0]
    raise LookupError(f"{item.name} in {top.name} is of no part of the deployment")


def needs(graph: Graph) -> dict[Part, set[Part]]:
    """Return what each part waits for, without what another one that it waits for does already.

    Raises:
        graphlib.CycleError: two parts wait for each other.
    """
    parts = parts_of(graph)
    found: dict[Part, set[Part]] = {part: set() for part in parts.values() if part is not PROVIDERS}
    for urn, part in parts.items():
        for needed in dependencies(graph, urn) & parts.keys():
            if PROVIDERS not in (part, parts[needed]) and parts[needed] is not part:
                found[part].add(parts[needed])
    everything: dict[Part, set[Part]] = {}
    for part in TopologicalSorter(found).static_order():
        everything[part] = found[part].union(*(everything[other] for other in found[part]))
    return {part: _direct(direct, everything) for part, direct in found.items()}


def _direct(direct: set[Part], everything: Mapping[Part, set[Part]]) -> set[Part]:
    return {part for part in direct if not any(part in everything[other] for other in direct)}
