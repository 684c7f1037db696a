"""The Cluster Autoscaler and the device plugin: what they run, what they may do, when they go."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import pulumi
import pytest

from infra.eks.third_party import CLUSTER_AUTOSCALER
from tests.infra import machines

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_DEPLOYMENT = "cluster-autoscaler-deployment"
_DAEMON_SET = "device-plugin-daemon-set"
_DIGEST = re.compile(r"[a-z0-9.-]+(/[a-z0-9-]+)+:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}")
_GROUPS = {
    "a": {"instance_types": ["g6.12xlarge", "g6.24xlarge"], "desired": 0, "max": 2, "disk_gib": 300},
    "b": {"instance_types": ["g5.xlarge"], "operating_system": "BOTTLEROCKET", "desired": 1, "max": 4},
}


@functools.cache
def _graph(section: str, preview: bool) -> Graph:
    return machines.run(preview=preview, **json.loads(section))


def _run(*, preview: bool = False, serving: Any = None, **eks: Any) -> Graph:
    section = {"cluster_autoscaler": True, "gpu_node_groups": _GROUPS, "serving": serving, **eks}
    return _graph(json.dumps(section, sort_keys=True), preview)


def _pod(item: Recorded) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spec of the pods, and their only container."""
    pod: dict[str, Any] = item.inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def _flags(recorded: Graph) -> dict[str, str]:
    _, container = _pod(recorded.named(_DEPLOYMENT))
    assert container["command"] == ["/cluster-autoscaler"]
    given = [argument.partition("=")[::2] for argument in container["args"]]
    assert len(dict(given)) == len(given)
    return dict(given)


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("preview", [True, False])
def test_both_run_by_digest_and_say_whose_they_are(preview: bool) -> None:
    recorded = _run(preview=preview)
    for name in (_DEPLOYMENT, _DAEMON_SET):
        item = recorded.named(name)
        _, container = _pod(item)
        assert _DIGEST.fullmatch(container["image"])
        for labels in (
            item.inputs["metadata"]["labels"],
            item.inputs["spec"]["template"]["metadata"]["labels"],
        ):
            assert labels["app.kubernetes.io/instance"] == "test"
            assert labels["berth/owner"] == "me"
        assert item.inputs["metadata"]["namespace"] == "kube-system"
        assert all(item.timeouts)


def test_there_is_none_unless_the_stack_wants_it() -> None:
    recorded = _run(cluster_autoscaler=False, gpu_node_groups={"a": {"instance_types": ["g6.xlarge"]}})
    assert not [item for item in recorded if "autoscal" in item.name]


def test_it_finds_our_groups_and_no_other_cluster_s() -> None:
    recorded = _run()
    cluster = recorded.named("cluster-control-plane").inputs["name"]
    flags = _flags(recorded)
    assert flags["--cloud-provider"] == "aws"
    assert flags["--node-group-auto-discovery"] == (
        f"asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/{cluster}"
    )
    assert flags["--leader-elect"] == "true"
    assert flags["--skip-nodes-with-system-pods"] == "false"
    assert flags["--expander"] == "least-waste"
    assert "--balance-similar-node-groups" in flags


@pytest.mark.parametrize(("startup_seconds", "drain_seconds"), [(60, 60), (3600, 3000)])
def test_no_machine_goes_before_its_replica_is_ready_or_has_drained(
    startup_seconds: int, drain_seconds: int
) -> None:
    serving = {"startup_timeout_seconds": startup_seconds, "drain_seconds": drain_seconds}
    flags = _flags(_run(serving=serving))
    for name in ("--scale-down-delay-after-add", "--scale-down-unneeded-time"):
        assert _seconds(flags[name]) > startup_seconds
        assert _seconds(flags[name]) >= 600
    assert int(flags["--max-graceful-termination-sec"]) >= drain_seconds


def test_a_machine_with_one_gpu_in_use_is_not_given_up() -> None:
    assert 0 < float(_flags(_run())["--scale-down-gpu-utilization-threshold"]) < 1 / 8


@pytest.mark.parametrize("version", sorted(CLUSTER_AUTOSCALER))
def test_its_version_is_the_cluster_s(version: str) -> None:
    _, container = _pod(_run(kubernetes_version=version).named(_DEPLOYMENT))
    assert f"cluster-autoscaler:v{version}." in container["image"]


def test_a_version_without_an_image_is_refused_with_the_keys() -> None:
    with pytest.raises(
        pulumi.RunError,
        match=r'berth:eks\.cluster_autoscaler = true: .*eks\.kubernetes_version "1\.34".* 1\.35, 1\.36 only',
    ):
        _run(kubernetes_version="1.34")


def test_it_runs_on_a_system_machine_with_little() -> None:
    recorded = _run()
    item = recorded.named(_DEPLOYMENT)
    pod, container = _pod(item)
    assert item.inputs["spec"]["replicas"] == 1
    system = recorded.named("nodes-system").inputs["labels"]
    assert pod["nodeSelector"]
    assert pod["nodeSelector"].items() <= system.items()
    for group in ("a", "b"):
        labels = recorded.named(f"nodes-gpu-{group}").inputs["labels"]
        assert not pod["nodeSelector"].items() <= labels.items()
    assert "tolerations" not in pod
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "AWS_REGION", "value": "us-east-1"} in container["env"]
    assert "hostNetwork" not in pod


def test_in_the_cluster_it_has_no_right_by_a_star_and_none_over_secrets() -> None:
    recorded = _run()
    rules = [
        rule
        for item in recorded
        if item.type.startswith("kubernetes:rbac") and "rules" in item.inputs
        for rule in item.inputs["rules"]
    ]
    assert rules
    for rule in rules:
        assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert "secrets" not in rule["resources"]
    everywhere = recorded.named("cluster-autoscaler-cluster-role").inputs["rules"]
    written = {
        resource
        for rule in everywhere
        if set(rule["verbs"]) - {"get", "list", "watch"}
        for resource in rule["resources"]
    }
    assert written == {"events", "nodes", "pods/eviction", "pods/status"}
    for kind, role in (("cluster-role", "ClusterRole"), ("namespace-role", "Role")):
        binding = recorded.named(f"cluster-autoscaler-{kind}-binding").inputs
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (role, "cluster-autoscaler")
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "cluster-autoscaler", "namespace": "kube-system"}
        ]


def test_on_aws_it_changes_the_groups_of_this_cluster_only() -> None:
    recorded = _run()
    cluster = recorded.named("cluster-control-plane").inputs["name"]
    policy = json.loads(recorded.named("cluster-autoscaler-role-policy").inputs["policy"])
    tag = f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}"
    changes = []
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            assert "*" not in action
            verb = action.partition(":")[2]
            if not verb.startswith(("Describe", "Get")):
                changes.append(action)
                assert statement["Condition"] == {"StringEquals": {tag: "owned"}}
            if action.startswith("eks:"):
                assert (
                    statement["Resource"] == machines.CLUSTER_ARN.replace(":cluster/", ":nodegroup/") + "/*"
                )
    assert changes == [
        "autoscaling:SetDesiredCapacity",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
    ]


def test_its_rights_are_there_before_it_and_after_it() -> None:
    recorded = _run()
    item = recorded.named(_DEPLOYMENT)
    association = recorded.named("cluster-autoscaler-association")
    assert association.inputs["namespace"] == "kube-system"
    assert association.inputs["serviceAccount"] == "cluster-autoscaler"
    for name in (
        "cluster-autoscaler-association",
        "cluster-autoscaler-cluster-role-binding",
        "cluster-autoscaler-namespace-role-binding",
    ):
        assert machines.outlives(recorded, name, item)
    assert machines.outlives(recorded, "cluster-autoscaler-role-policy", association)


def test_it_goes_before_any_machine_does() -> None:
    recorded = _run()
    item = recorded.named(_DEPLOYMENT)
    for group in ("nodes-gpu-a", "nodes-gpu-b", "nodes-system"):
        assert recorded.named(group).urn in recorded.needs(item.urn)


def test_sizes_are_the_autoscaler_s_from_then_on() -> None:
    for group in _run().of_type("aws:eks/nodeGroup:NodeGroup"):
        assert list(group.request.ignoreChanges) == ["scalingConfig.desiredSize"]


def test_an_empty_group_says_what_its_machines_would_be() -> None:
    recorded = _run()
    prefix = "k8s.io/cluster-autoscaler/node-template/"
    said: dict[str, dict[str, str]] = {}
    for item in recorded.of_type("aws:autoscaling/tag:Tag"):
        tag = item.inputs["tag"]
        assert tag["propagateAtLaunch"] is False
        assert tag["key"].startswith(prefix)  # the two of discovery are EKS's own
        said.setdefault(item.inputs["autoscalingGroupName"], {})[tag["key"].removeprefix(prefix)] = tag[
            "value"
        ]
    assert said["nodes-gpu-a-asg"] == {
        "label/nvidia.com/gpu.present": "true",
        "label/k8s.amazonaws.com/accelerator": "nvidia-l4",
        "label/berth/operating-system": "al2023",
        "taint/nvidia.com/gpu": "present:NoSchedule",
        "resources/nvidia.com/gpu": "4",
        "resources/ephemeral-storage": "300Gi",
    }
    for name, tags in said.items():
        labels = recorded.named(name.removesuffix("-asg")).inputs["labels"]
        assert {key.removeprefix("label/") for key in tags if key.startswith("label/")} == set(labels)
    assert set(said) == {"nodes-gpu-a-asg", "nodes-gpu-b-asg"}


def test_the_device_plugin_runs_where_the_system_has_none() -> None:
    recorded = _run()
    pod, container = _pod(recorded.named(_DAEMON_SET))
    selector = pod["nodeSelector"].items()
    assert pod["nodeSelector"]["nvidia.com/gpu.present"] == "true"
    assert selector <= recorded.named("nodes-gpu-a").inputs["labels"].items()
    assert not selector <= recorded.named("nodes-gpu-b").inputs["labels"].items()  # Bottlerocket's own
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert "runtimeClassName" not in pod
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    (volume,) = pod["volumes"]
    assert volume["hostPath"]["path"] == "/var/lib/kubelet/device-plugins"


def test_bottlerocket_alone_needs_no_device_plugin() -> None:
    recorded = _run(gpu_node_groups={"b": _GROUPS["b"]})
    assert not [item for item in recorded if item.type == "kubernetes:apps/v1:DaemonSet"]
