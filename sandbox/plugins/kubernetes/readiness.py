"""Says of an object whether it is ready, what it still waits for, or why it will not become ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sandbox.plugins.kubernetes import pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.plugins.kubernetes.cluster import Cluster

_REVISION: Final = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Readiness:
    """How far an object is.

    Args:
        ready: whether it is ready.
        waiting: what it waits for, one line.
        failures: why it will not become ready; empty while it may.
    """

    ready: bool
    waiting: str = ""
    failures: list[str] = field(default_factory=list)


READY: Final = Readiness(ready=True)


def _label_selector(selector: dict[str, Any]) -> str:
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for item in selector.get("matchExpressions") or ():
        values = ",".join(item.get("values") or ())
        match item["operator"]:
            case "In":
                parts.append(f"{item['key']} in ({values})")
            case "NotIn":
                parts.append(f"{item['key']} notin ({values})")
            case "Exists":
                parts.append(item["key"])
            case "DoesNotExist":
                parts.append(f"!{item['key']}")
    return ",".join(parts)


def _owned_by(items: list[dict[str, Any]], owner: dict[str, Any]) -> list[dict[str, Any]]:
    uid = owner["metadata"]["uid"]
    return [
        item
        for item in items
        if any(reference["uid"] == uid for reference in item["metadata"].get("ownerReferences") or ())
    ]


def _conditions(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["type"]: item for item in (found.get("status") or {}).get("conditions") or ()}


def _new_pods(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods of the deployment's newest revision."""
    own = deployment["metadata"]
    selector = _label_selector(deployment["spec"]["selector"])
    sets = _owned_by(
        cluster.list("apps/v1", "ReplicaSet", own["namespace"], labelSelector=selector), deployment
    )
    revision = (own.get("annotations") or {}).get(_REVISION)
    newest = [item for item in sets if (item["metadata"].get("annotations") or {}).get(_REVISION) == revision]
    if not newest:
        return []
    found = cluster.list("v1", "Pod", own["namespace"], labelSelector=selector)
    return [pod for pod in _owned_by(found, newest[0]) if "deletionTimestamp" not in pod["metadata"]]


def deployment(cluster: Cluster, found: dict[str, Any]) -> Readiness:
    """A deployment is ready when all of its replicas are of the newest revision, and available."""
    name = f"Deployment {found['metadata']['name']}"
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return Readiness(ready=False, waiting=f"{name}: not seen by its controller yet")
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated == available == status.get("replicas", 0) == wanted:
        return READY
    new = _new_pods(cluster, found)
    failures = next(filter(None, (pods.hopeless(cluster, pod) for pod in new)), [])
    conditions = _conditions(found)
    progressing, failing = conditions.get("Progressing", {}), conditions.get("ReplicaFailure", {})
    late = (
        [f"{progressing['reason']}: {progressing.get('message', '')}"]
        if progressing.get("status") == "False"
        else []
    )
    ready = sum(map(pods.is_ready, new))
    waiting = f"{name}: {ready}/{wanted} ready"
    unready = [pod for pod in new if not pods.is_ready(pod)]
    if unready:
        waiting += f", {pods.state(unready[0])}"
    elif failing.get("status") == "True":
        waiting += f", {failing.get('message')}"
    elif status.get("replicas", 0) > wanted:
        waiting += f", {status['replicas'] - wanted} of the old revision still end"
    if failures or late:
        return Readiness(ready=False, waiting=waiting, failures=[*failures, *late])
    return Readiness(ready=False, waiting=waiting)


def daemon_set(cluster: Cluster, found: dict[str, Any]) -> Readiness:
    """A daemon set is ready when each node that it is for runs its newest pod, and that is available.

    The counts are those by which the official provider decides: kstatus's, as it calls them.
    """
    own, status = found["metadata"], found.get("status") or {}
    name = f"DaemonSet {own['name']}"
    if status.get("observedGeneration", 0) < own["generation"]:
        return Readiness(ready=False, waiting=f"{name}: not seen by its controller yet")
    wanted = status.get("desiredNumberScheduled", 0)
    for words, key in (
        ("scheduled", "currentNumberScheduled"),
        ("updated", "updatedNumberScheduled"),
        ("available", "numberAvailable"),
        ("ready", "numberReady"),
    ):
        if status.get(key, 0) < wanted:
            waiting = f"{name}: {status.get(key, 0)}/{wanted} {words}"
            break
    else:
        return READY
    selector = _label_selector(found["spec"]["selector"])
    listed = _owned_by(cluster.list("v1", "Pod", own["namespace"], labelSelector=selector), found)
    staying = [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]
    unready = [pod for pod in staying if not pods.is_ready(pod)]
    if unready:
        waiting += f", {pods.state(unready[0])}"
    failures = next(filter(None, (pods.hopeless(cluster, pod) for pod in unready)), [])
    return Readiness(ready=False, waiting=waiting, failures=failures)


def service(cluster: Cluster, found: dict[str, Any]) -> Readiness:
    """A service is ready when all endpoints of its selector are, and its load balancer has an address."""
    spec, own = found["spec"], found["metadata"]
    name = f"Service {own['name']}"
    if spec.get("type") == "ExternalName":
        return READY
    if spec.get("type") == "LoadBalancer" and not ((found.get("status") or {}).get("loadBalancer") or {}).get(
        "ingress"
    ):
        return Readiness(ready=False, waiting=f"{name}: no address of its load balancer yet")
    if not spec.get("selector") or spec.get("clusterIP") == "None":
        return READY
    slices = cluster.list(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        own["namespace"],
        labelSelector=f"kubernetes.io/service-name={own['name']}",
    )
    conditions = [
        endpoint.get("conditions") or {} for item in slices for endpoint in item.get("endpoints") or ()
    ]
    staying = [condition for condition in conditions if not condition.get("terminating")]
    ready = [condition for condition in staying if condition.get("ready")]
    if ready and len(ready) == len(staying):
        return READY
    if not staying:
        return Readiness(ready=False, waiting=f"{name}: no pods match its selector yet")
    return Readiness(ready=False, waiting=f"{name}: {len(ready)}/{len(staying)} endpoints ready")


def job(cluster: Cluster, found: dict[str, Any]) -> Readiness:
    """A job is ready when it is complete."""
    name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
    conditions = _conditions(found)
    if conditions.get("Complete", {}).get("status") == "True" or found["spec"].get("suspend"):
        return READY
    own = _owned_by(
        cluster.list("v1", "Pod", namespace, labelSelector=f"batch.kubernetes.io/job-name={name}"), found
    )
    failed = conditions.get("Failed", {})
    if failed.get("status") == "True":
        reasons = [f"Job {name}: {failed.get('reason')}: {failed.get('message')}"]
        for pod in own:
            for container in (pod.get("status") or {}).get("containerStatuses") or ():
                ended = (container.get("state") or {}).get("terminated") or {}
                if ended.get("exitCode"):
                    tail = ended.get("message") or cluster.log_tail(
                        namespace, pod["metadata"]["name"], container["name"], previous=False, lines=20
                    )
                    reasons.append(
                        f"pod {pod['metadata']['name']}: exit status {ended['exitCode']}: {tail.strip()}"
                    )
        return Readiness(ready=False, failures=reasons)
    failures = next(filter(None, (pods.hopeless(cluster, pod) for pod in own)), [])
    running = pods.state(own[-1]) if own else "no pod yet"
    return Readiness(ready=False, waiting=f"Job {name}: {running}", failures=failures)


def namespace(cluster: Cluster, found: dict[str, Any]) -> Readiness:
    """A namespace is ready when it is active."""
    del cluster
    phase = (found.get("status") or {}).get("phase")
    if phase == "Active":
        return READY
    return Readiness(ready=False, waiting=f"Namespace {found['metadata']['name']}: {phase}")


CHECKS: Final[dict[tuple[str, str], Callable[[Cluster, dict[str, Any]], Readiness]]] = {
    ("apps/v1", "DaemonSet"): daemon_set,
    ("apps/v1", "Deployment"): deployment,
    ("batch/v1", "Job"): job,
    ("v1", "Namespace"): namespace,
    ("v1", "Service"): service,
}
