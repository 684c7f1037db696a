"""The autoscaler's decisions, without a cluster: which group grows for which pods, and which node may go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.standins.cluster_autoscaler.flags import Flags, parse
from sandbox.kubernetes.standins.cluster_autoscaler.groups import Group
from sandbox.kubernetes.standins.cluster_autoscaler.scale_down import ScaleDown
from sandbox.kubernetes.standins.cluster_autoscaler.scale_up import ScaleUp
from sandbox.kubernetes.standins.cluster_autoscaler.simulator import NodeShape
from sandbox.kubernetes.standins.cluster_autoscaler.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
GIB = 2.0**30


def flags(*arguments: str) -> Flags:
    return parse(["--cloud-provider=aws", "--node-group-auto-discovery=asg:tag=a", *arguments])


def group(
    name: str, desired: int, maximum: int, *, minimum: int = 0, instances: tuple[str, ...] = ()
) -> Group:
    return Group(name, minimum, maximum, desired, frozenset(instances), ("us-east-1a",), {}, "g5.xlarge")


def shape(cpu: float, memory_gib: float, gpus: float = 0, **labels: str) -> NodeShape:
    resources = {"cpu": cpu, "memory": memory_gib * GIB, "pods": 110.0, GPU: gpus}
    return NodeShape(labels, (TAINT,) if gpus else (), resources)


def pod(
    name: str, *, gpus: int = 0, cpu: str = "1", node: str | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a pod that runs on a node, or one that the scheduler has given up."""
    limits = {GPU: str(gpus)} if gpus else {}
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "labels": {"app": name},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "controller": True}],
            **changes.pop("metadata", {}),
        },
        "spec": {
            "containers": [{"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": limits}}],
            "tolerations": [{"key": GPU, "operator": "Exists"}] if gpus else [],
            **({"nodeName": node} if node else {}),
            **changes,
        },
        "status": {"phase": "Running"} if node else {"phase": "Pending", "conditions": [unschedulable]},
    }


def node(name: str, instance: str, labels: dict[str, str] | None = None, *, gpus: int = 0) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"providerID": f"aws:///us-east-1a/{instance}", "taints": [TAINT] if gpus else []},
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110", GPU: str(gpus)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


class Cloud:
    """AWS in memory."""

    def __init__(self, **shapes: NodeShape) -> None:
        self.shapes = shapes
        self.sizes: dict[str, int] = {}
        self.terminated: list[str] = []
        self.done = threading.Event()

    def template(self, of: Group) -> NodeShape:
        return self.shapes[of.name]

    def set_size(self, of: Group, size: int) -> None:
        self.sizes[of.name] = size

    def terminate(self, instance_id: str) -> None:
        self.terminated.append(instance_id)
        self.done.set()


class Cluster:
    """Kubernetes in memory."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.evicted: list[str] = []
        self.tainted: list[str] = []

    def event(self, about: Mapping[str, Any], _kind: str, reason: str, message: str) -> None:
        self.events.append((about["metadata"]["name"], reason, message))

    def taint(self, name: str, _key: str, *, cordon: bool) -> None:
        assert cordon
        self.tainted.append(name)

    def evict(self, pod: Mapping[str, Any], _grace_seconds: int) -> bool:
        self.evicted.append(pod["metadata"]["name"])
        return True

    def objects(self, _path: str) -> list[Any]:
        return []


def view(*groups: Group, nodes: Any = (), pods: Any = (), budgets: Any = (), daemon_sets: Any = ()) -> View:
    return View({each.name: each for each in groups}, nodes, pods, budgets, daemon_sets)


def scale_up(cloud: Cloud, seen: View, *arguments: str) -> list[tuple[str, str, str]]:
    cluster = Cluster()
    ScaleUp(cluster, cloud, flags(*arguments)).run(seen)  # type: ignore[arg-type]
    return cluster.events


def test_the_group_that_fits_grows_by_what_is_needed() -> None:
    cloud = Cloud(cpu=shape(8, 32), gpu=shape(8, 32, 1))
    pods = [pod(name, gpus=1) for name in "abc"]
    events = scale_up(cloud, view(group("cpu", 0, 9), group("gpu", 0, 2), pods=pods))
    assert cloud.sizes == {"gpu": 2}
    words = "pod triggered scale-up: [{gpu 0->2 (max: 2)}]"
    assert events == [("a", "TriggeredScaleUp", words), ("b", "TriggeredScaleUp", words)]


def test_least_waste_takes_the_smaller_machine_and_daemon_sets_need_room() -> None:
    cloud = Cloud(large=shape(16, 64), small=shape(2, 8))
    groups = group("large", 0, 1), group("small", 0, 1)
    scale_up(cloud, view(*groups, pods=[pod("a")]))
    assert cloud.sizes == {"small": 1}
    cloud.sizes.clear()
    everywhere = pod("agent", cpu="1500m")
    scale_up(cloud, view(*groups, pods=[pod("a")], daemon_sets=[everywhere]))
    assert cloud.sizes == {"large": 1}


def test_nodes_on_their_way_are_waited_for() -> None:
    cloud = Cloud(gpu=shape(8, 32, 1))
    waiting = [pod("a", gpus=1)]
    coming = group("gpu", 1, 4, instances=("i-1",))
    assert scale_up(cloud, view(coming, pods=waiting)) == []
    # There, but its GPU cannot be used yet: its label says that it has one.
    label = {"k8s.amazonaws.com/accelerator": "nvidia"}
    assert scale_up(cloud, view(coming, pods=waiting, nodes=[node("n", "i-1", label)])) == []
    assert cloud.sizes == {}


def test_groups_that_are_alike_are_balanced() -> None:
    cloud = Cloud(a=shape(4, 16, 1), b=shape(4, 16, 1), c=shape(8, 16, 1))
    pods = [pod(str(number), gpus=1) for number in range(4)]
    groups = group("a", 0, 9), group("b", 0, 9), group("c", 0, 9)
    scale_up(cloud, view(*groups, pods=pods), "--balance-similar-node-groups")
    assert cloud.sizes == {"a": 2, "b": 2}


def test_why_nothing_grows_is_said_once() -> None:
    cloud, cluster = Cloud(full=shape(8, 32), other=shape(8, 32, pool="x")), Cluster()
    seen = view(group("full", 1, 1), group("other", 0, 1), pods=[pod("a", nodeSelector={"pool": "y"})])
    decide = ScaleUp(cluster, cloud, flags())  # type: ignore[arg-type]
    assert not decide.run(seen)
    assert not decide.run(seen)
    why = "pod didn't trigger scale-up: 2 node(s) didn't match Pod's node affinity/selector"
    assert cluster.events == [("a", "NotTriggerScaleUp", why)]


def test_expendable_pods_bring_no_node() -> None:
    cloud = Cloud(cpu=shape(8, 32))
    assert scale_up(cloud, view(group("cpu", 0, 9), pods=[pod("a", priority=-11)])) == []


SELECTS_WEB = {"selector": {"matchLabels": {"app": "web"}}}
SYSTEM = {"namespace": "kube-system", "creationTimestamp": "2999-01-01T00:00:00Z"}
KEPT = {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}
FILES = {"volumes": [{"name": "v", "emptyDir": {}}]}
MEMORY = {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}


def budget(allowed: int) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "default"}
    return {"metadata": metadata, "spec": SELECTS_WEB, "status": {"disruptionsAllowed": allowed}}


@pytest.mark.parametrize(
    ("changes", "budgets", "arguments", "goes"),
    [
        ({}, [], (), True),
        ({"cpu": "3"}, [], (), False),
        ({"cpu": "3"}, [], ("--scale-down-utilization-threshold=0.8",), True),
        ({"metadata": {"ownerReferences": []}}, [], (), False),
        ({"metadata": KEPT}, [], (), False),
        ({"metadata": SYSTEM}, [], (), False),
        ({"metadata": SYSTEM}, [], ("--skip-nodes-with-system-pods=false",), True),
        (FILES, [], (), False),
        (FILES, [], ("--skip-nodes-with-local-storage=false",), True),
        (MEMORY, [], (), True),
        ({}, [budget(0)], (), False),
        ({}, [budget(1)], (), True),
        ({"nodeSelector": {"only": "here"}}, [], (), False),
    ],
)
def test_a_node_goes_only_if_its_pods_can(
    changes: dict[str, Any], budgets: list[Any], arguments: tuple[str, ...], goes: bool
) -> None:
    cloud, cluster = Cloud(), Cluster()
    # The second node is full enough to be needed itself.
    pods = [pod("web", node="n1", **changes), pod("busy", node="n2", cpu="2500m", metadata=KEPT)]
    if changes.get("cpu") == "3":
        pods.pop()
        pods.append(pod("busy", node="n2", cpu="100m", metadata=KEPT))
    seen = view(
        group("g", 2, 4, minimum=1, instances=("i-1", "i-2")),
        nodes=[node("n1", "i-1", {"only": "here"}), node("n2", "i-2")],
        pods=pods,
        budgets=budgets,
    )
    at_once = ("--scale-down-unneeded-time=0s", "--node-delete-delay-after-taint=0s")
    ScaleDown(cluster, cloud, flags(*at_once, *arguments)).run(seen, float("-inf"))  # type: ignore[arg-type]
    assert cloud.done.wait(10 if goes else 0.2) is goes
    assert (cloud.terminated, cluster.evicted) == ((["i-1"], ["web"]) if goes else ([], []))


def test_times_and_sizes_are_kept_to() -> None:
    cloud, cluster = Cloud(), Cluster()
    empty = [node("n1", "i-1"), node("n2", "i-2", gpus=1)]
    at_once = ("--scale-down-unneeded-time=0s", "--node-delete-delay-after-taint=0s")

    def run(seen: View, *arguments: str, last_scale_up: float = float("-inf")) -> None:
        ScaleDown(cluster, cloud, flags(*at_once, *arguments)).run(seen, last_scale_up)  # type: ignore[arg-type]

    floor = group("g", 2, 4, minimum=2, instances=("i-1", "i-2"))
    run(view(floor, nodes=empty))
    spare = group("g", 2, 4, minimum=0, instances=("i-1", "i-2"))
    run(view(spare, nodes=empty), "--scale-down-unneeded-time=1m")
    run(view(spare, nodes=empty), last_scale_up=float("inf"))
    assert cluster.tainted == []
    one = group("g", 2, 4, minimum=1, instances=("i-1", "i-2"))
    run(view(one, nodes=empty))
    assert cloud.done.wait(10)
    assert cluster.tainted == ["n1"]
