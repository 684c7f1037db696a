"""Says which pods would run on which nodes: node selectors, required node affinity, taints and requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.node.quantities import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.kubernetes.node.api import Object

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
# Taints that are about a node's moment and not about its kind.
_PASSING = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
)


@dataclass(frozen=True)
class NodeShape:
    """What matters of a node.

    Args:
        labels, taints: as in the API.
        resources: what is allocatable, in base units.
    """

    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    resources: Mapping[str, float]

    @classmethod
    def of(cls, node: Object, *, template: bool = False) -> NodeShape:
        """Return that of a node; as a template, without what is of this moment."""
        taints = node["spec"].get("taints") or ()
        return cls(
            node["metadata"].get("labels") or {},
            tuple(each for each in taints if not (template and each["key"].startswith(_PASSING))),
            {name: float(parse(str(text))) for name, text in node["status"]["allocatable"].items()},
        )


@dataclass
class Place:
    """A node, there or imagined, and the room that is left on it.

    Args:
        shape: what it is like.
        used: what its pods have requested.
    """

    shape: NodeShape
    used: Counter[str] = field(default_factory=Counter)

    def why_not(self, pod: Object) -> str | None:
        """Return why a pod cannot run here, in the scheduler's words; None if it can."""
        if not selects(pod["spec"], self.shape.labels):
            return "node(s) didn't match Pod's node affinity/selector"
        for taint in self.shape.taints:
            if taint["effect"] != "PreferNoSchedule" and not _tolerated(taint, pod["spec"]):
                return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
        for name, amount in requests(pod).items():
            if amount and self.used[name] + amount > self.shape.resources.get(name, 0.0):
                return f"Insufficient {name}"
        return None

    def take(self, pod: Object) -> None:
        """Put a pod here."""
        self.used.update(requests(pod))


def place_all(pods: Iterable[Object], places: Sequence[Place]) -> list[Object]:
    """Put pods on the first place that takes them; return those that none takes."""
    left = []
    for pod in pods:
        place = next((each for each in places if each.why_not(pod) is None), None)
        if place is None:
            left.append(pod)
        else:
            place.take(pod)
    return left


def requests(pod: Object) -> Counter[str]:
    """Return what a pod requests, itself as one of "pods" too."""
    main: Counter[str] = Counter()
    for container in pod["spec"]["containers"]:
        main.update(_requests(container))
    for container in pod["spec"].get("initContainers") or ():
        main |= _requests(container)
    main["pods"] = 1
    return main


def _requests(container: Mapping[str, Any]) -> Counter[str]:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return Counter({name: float(parse(str(text))) for name, text in amounts.items()})


def selects(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a pod's node selector and required node affinity fit a node's labels."""
    wanted = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    return not terms or any(
        all(_holds(each, labels) for each in term.get("matchExpressions") or ()) for term in terms
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    label = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return label in values
        case "NotIn":
            return label not in values
        case "Exists":
            return label is not None
        case "DoesNotExist":
            return label is None
        case "Gt":
            return label is not None and int(label) > int(values[0])
        case _:
            return label is not None and int(label) < int(values[0])


def _tolerated(taint: Mapping[str, str], spec: Mapping[str, Any]) -> bool:
    for toleration in spec.get("tolerations") or ():
        if toleration.get("effect") not in {None, "", taint["effect"]}:
            continue
        key, exists = toleration.get("key"), toleration.get("operator") == "Exists"
        if (exists and key in {None, "", taint["key"]}) or (
            key == taint["key"] and not exists and toleration.get("value", "") == taint.get("value", "")
        ):
            return True
    return False
