"""Makes a pod's status from its containers, by the kubelet's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kubernetes.node.events import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.kubernetes.node.addresses import Reservation
    from sandbox.kubernetes.node.api import Object
    from sandbox.kubernetes.node.container import Runner
    from sandbox.kubernetes.node.context import NodeContext


def build(
    pod: Object,
    runners: Mapping[str, Runner],
    node: NodeContext,
    address: Reservation | None,
    *,
    problem: tuple[str, str] | None,
    failed: tuple[str, str] | None,
) -> Object:
    """Return the status to write.

    Args:
        pod: the pod as the API has it.
        runners: its containers, by name; empty before it is prepared.
        node: where it is.
        address: its address, once it has one.
        problem: reason and message of why it cannot be prepared.
        failed: reason and message of why it failed as a whole.
    """
    spec, old = pod["spec"], pod.get("status") or {}
    init = [_container(entry, runners, old, "initContainerStatuses", problem) for entry in _init(spec)]
    main = [_container(entry, runners, old, "containerStatuses", problem) for entry in spec["containers"]]
    phase = "Failed" if failed else _phase(spec, init, main)
    if old.get("phase") in {"Succeeded", "Failed"}:
        phase = old["phase"]
    status: Object = {
        "phase": phase,
        "hostIP": node.address,
        "hostIPs": [{"ip": node.address}],
        "startTime": old.get("startTime") or timestamp(),
        "containerStatuses": main,
        "conditions": _conditions(pod, init, main, phase, prepared=address is not None and problem is None),
        "observedGeneration": pod["metadata"].get("generation", 0),
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if init:
        status["initContainerStatuses"] = init
    if address is not None:
        status |= {"podIP": address.public, "podIPs": [{"$patch": "replace"}, {"ip": address.public}]}
    if failed is not None:
        status |= {"reason": failed[0], "message": failed[1]}
    return status


def _init(spec: Object) -> Sequence[Object]:
    return spec.get("initContainers") or ()


def _container(
    spec: Object, runners: Mapping[str, Runner], old: Object, key: str, problem: tuple[str, str] | None
) -> Object:
    runner = runners.get(spec["name"])
    if runner is not None:
        return runner.status()
    for entry in old.get(key) or ():
        if entry["name"] == spec["name"] and problem is None:
            known: Object = entry
            return known
    waiting = {"reason": "ContainerCreating"}
    if problem is not None:
        waiting = {"reason": problem[0], "message": problem[1]}
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "restartCount": 0,
        "state": {"waiting": waiting},
        "lastState": {},
        "ready": False,
        "started": False,
    }


def _phase(spec: Object, init: Sequence[Object], main: Sequence[Object]) -> str:
    policy = spec.get("restartPolicy", "Always")
    if any(_exit_code(entry) for entry in init) and policy == "Never":
        return "Failed"
    if not all(_exit_code(entry) == 0 for entry in init):
        return "Pending"
    codes = [_exit_code(entry) for entry in main]
    if not any("running" in entry["state"] for entry in main):
        if any(code is None for code in codes):
            # Waiting: for its first start, or for the next one.
            return "Running" if any(entry["lastState"] for entry in main) else "Pending"
        if policy != "Always" and not any(codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running"


def _exit_code(entry: Object) -> int | None:
    terminated = entry["state"].get("terminated")
    return None if terminated is None else int(terminated["exitCode"])


def _conditions(
    pod: Object, init: Sequence[Object], main: Sequence[Object], phase: str, *, prepared: bool
) -> list[Object]:
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    initialized = all(_exit_code(entry) == 0 for entry in init)
    waiting = [entry["name"] for entry in main if not entry["ready"]]
    ready = not waiting and over is None
    conditions = [
        _condition(pod, "PodReadyToStartContainers", prepared and over is None),
        _condition(
            pod,
            "Initialized",
            initialized,
            "ContainersNotInitialized",
            "containers with incomplete status: "
            f"[{' '.join(entry['name'] for entry in init if _exit_code(entry) != 0)}]",
        ),
    ]
    reason, message = (
        over or "ContainersNotReady",
        "" if over else f"containers with unready status: [{' '.join(waiting)}]",
    )
    conditions.append(_condition(pod, "ContainersReady", ready, reason, message))
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    known = {entry["type"]: entry["status"] for entry in (pod.get("status") or {}).get("conditions") or ()}
    shut = [gate for gate in gates if known.get(gate) != "True"]
    if ready and shut:
        reason, message = (
            "ReadinessGatesNotReady",
            f'the status of pod readiness gate "{shut[0]}" is not "True"',
        )
    conditions.append(_condition(pod, "Ready", ready and not shut, reason, message))
    return conditions


def _condition(pod: Object, kind: str, true: bool, reason: str = "", message: str = "") -> Object:
    value = "True" if true else "False"
    since = timestamp()
    for entry in (pod.get("status") or {}).get("conditions") or ():
        if entry["type"] == kind and entry["status"] == value and entry.get("lastTransitionTime"):
            since = entry["lastTransitionTime"]
    return {
        "type": kind,
        "status": value,
        "reason": None if true or not reason else reason,
        "message": None if true or not message else message,
        "lastTransitionTime": since,
    }
