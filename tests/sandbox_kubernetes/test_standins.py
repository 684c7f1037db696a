"""Third-party images are played: GPUs come with the device plugin's pod, nodes with the autoscaler's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.kubernetes.standins.cluster_autoscaler.flags import FlagError, parse
from tests.sandbox_kubernetes.conftest import TOLERATION, Cluster, pod, wait_for

PLUGIN = "nvcr.io/nvidia/k8s-device-plugin:v0.18.2"
AUTOSCALER = f"registry.k8s.io/autoscaling/cluster-autoscaler:v1.35.0@sha256:{'2' * 64}"
FOLDER = "/var/lib/kubelet/device-plugins"
NAME = "cluster-autoscaler"
READ = ["get", "list", "watch"]


def device_plugin(**spec: Any) -> dict[str, Any]:
    container = {
        "name": "plugin",
        "image": PLUGIN,
        "volumeMounts": [{"name": "plugins", "mountPath": FOLDER}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "plugin", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "plugin"}},
            "template": {
                "metadata": {"labels": {"app": "plugin"}},
                "spec": {
                    "nodeSelector": {"plugin": "pod"},
                    "tolerations": [TOLERATION],
                    "automountServiceAccountToken": False,
                    "containers": [container],
                    "volumes": [{"name": "plugins", "hostPath": {"path": FOLDER, "type": "Directory"}}],
                    **spec,
                },
            },
        },
    }


def autoscaler(account: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the autoscaler with the rights of its own documentation."""
    rules = [
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": [*READ, "update"]},
        {
            "apiGroups": [""],
            "resources": [
                "namespaces",
                "persistentvolumeclaims",
                "persistentvolumes",
                "pods",
                "replicationcontrollers",
                "services",
            ],
            "verbs": READ,
        },
        {"apiGroups": ["apps"], "resources": ["daemonsets", "replicasets", "statefulsets"], "verbs": READ},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": READ},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": READ},
        {"apiGroups": ["storage.k8s.io"], "resources": ["*"], "verbs": READ},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["create", "get", "update"],
        },
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "update"]},
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}
    container = {
        "name": NAME,
        "image": AUTOSCALER,
        "command": ["./cluster-autoscaler"],
        "args": [
            "--cloud-provider=aws",
            "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/test",
            "--skip-nodes-with-local-storage=false",
            "--scan-interval=2s",
            *arguments,
        ],
        "env": [{"name": "AWS_REGION", "value": "us-east-1"}],
        "livenessProbe": {"httpGet": {"path": "/health-check", "port": 8085}},
    }
    made = pod(account)
    made["metadata"]["namespace"] = "kube-system"
    made["spec"] |= {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "nodeSelector": {"role": "gpu"},
        "containers": [container],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": "kube-system"},
        },
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": account},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAME},
            "subjects": [subject],
        },
        made,
    ]


def gpus(cluster: Cluster, node: str) -> tuple[str | None, str | None]:
    status = cluster.get("node", node)["status"]
    return tuple(status[key].get("nvidia.com/gpu") for key in ("capacity", "allocatable"))


def test_gpus_come_and_go_with_the_device_plugin(cluster: Cluster) -> None:
    cluster.add_node("al2023", 5, "--labels", "plugin=pod", "--gpus", "1", "--device-plugin", "pod")
    wanted = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    cluster.apply(pod("waits", container=wanted, nodeSelector={"plugin": "pod"}))
    wait_for(lambda: "Insufficient nvidia.com/gpu" in json.dumps(cluster.pod("waits")["status"]))
    assert gpus(cluster, "al2023") == (None, None)
    cluster.apply(device_plugin())
    wait_for(lambda: gpus(cluster, "al2023") == ("1", "1"))
    wait_for(lambda: cluster.ready("waits"))
    events = cluster.kubectl("-n", "kube-system", "get", "events")
    assert f'The sandbox plays image "{PLUGIN}" by a stand-in' in events
    # Without the kubelet's folder there is nobody to tell of the GPUs.
    cluster.kubectl("-n", "kube-system", "delete", "daemonset", "plugin")
    wait_for(lambda: gpus(cluster, "al2023") == ("1", "0"))
    assert cluster.ready("waits")
    cluster.kubectl("delete", "pod", "waits", "--grace-period=1")
    cluster.nodes.pop("al2023").stop()
    cluster.kubectl("delete", "node", "al2023")


def test_other_images_stay_out_of_reach(cluster: Cluster) -> None:
    cluster.apply(pod("foreign", container={"image": "quay.io/prometheus/prometheus:v3"}))
    wait_for(
        lambda: (
            cluster.container("foreign").get("state", {}).get("waiting", {}).get("reason")
            == "ImagePullBackOff"
        )
    )
    assert "not quay.io" in cluster.container("foreign")["state"]["waiting"]["message"]
    cluster.kubectl("delete", "pod", "foreign")


def test_an_autoscaler_without_a_role_ends(cluster: Cluster) -> None:
    cluster.apply(*autoscaler("no-role"))

    def log() -> str:
        return cluster.kubectl("-n", "kube-system", "logs", "no-role", check=False)

    wait_for(lambda: "Unable to locate credentials" in log())
    status = json.loads(cluster.kubectl("-n", "kube-system", "get", "pod", "no-role", "-o", "json"))["status"]
    assert "255" in json.dumps(status) or wait_for(
        lambda: "255" in cluster.kubectl("-n", "kube-system", "get", "pod", "no-role", "-o", "json")
    )
    cluster.kubectl("-n", "kube-system", "delete", "pod", "no-role", "--grace-period=1")


def test_nodes_come_for_pods_and_go_without_them(cluster: Cluster) -> None:
    aws = cluster.aws
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
    aws.node_group("small", "t3.large", 2)
    group = aws.node_group("gpus", "g5.xlarge", 1, labels={"pool": "gpus"}, taints=[taint])
    aws.associations.add(f"kube-system/{NAME}")
    cluster.apply(
        *autoscaler(NAME, "--scale-down-unneeded-time=2s", "--scale-down-delay-after-add=1s"),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "scaled"},
            "spec": {
                "selector": {"matchLabels": {"app": "scaled"}},
                "template": {
                    "metadata": {"labels": {"app": "scaled"}},
                    "spec": pod(
                        "scaled",
                        container={"resources": {"limits": {"nvidia.com/gpu": "1"}}},
                        nodeSelector={"pool": "gpus"},
                    )["spec"],
                },
            },
        },
        pod("nowhere", nodeSelector={"pool": "none"}),
    )
    # From nothing: what a node would be like, the autoscaler knows from EKS and EC2 alone.
    wait_for(lambda: aws.group(group)["DesiredCapacity"] == 1, 60)
    assert aws.group("small")["DesiredCapacity"] == 0
    events = wait_for(
        lambda: (
            found
            if "NotTriggerScaleUp" in (found := cluster.kubectl("get", "events"))
            and "TriggeredScaleUp" in found
            else None
        )
    )
    assert "pod triggered scale-up: [{gpus 0->1 (max: 1)}]" in events
    assert "2 node(s) didn't match Pod's node affinity/selector" in events
    claims = aws.credentials_for[-1]
    assert claims["aud"] == ["pods.eks.amazonaws.com"]
    assert claims["sub"] == f"system:serviceaccount:kube-system:{NAME}"

    (instance,) = aws.group(group)["Instances"]
    cluster.add_node(
        "scaled-1",
        6,
        *("--labels", "pool=gpus", "--taints", "nvidia.com/gpu=present:NoSchedule", "--gpus", "1"),
        *("--provider-id", f"aws:///us-east-1a/{instance['InstanceId']}"),
    )
    cluster.kubectl("rollout", "status", "deployment/scaled", "--timeout=60s")
    # It is in use, and its pod has no other place.
    assert aws.group(group)["DesiredCapacity"] == 1
    cluster.kubectl("delete", "deployment", "scaled")
    wait_for(lambda: aws.group(group)["DesiredCapacity"] == 0, 60)
    taints = cluster.get("node", "scaled-1")["spec"]["taints"]
    assert "ToBeDeletedByClusterAutoscaler" in {taint["key"] for taint in taints}
    cluster.kubectl("-n", "kube-system", "delete", "pod", NAME, "--grace-period=1")
    cluster.kubectl("delete", "pod", "nowhere")
    cluster.nodes.pop("scaled-1").stop()
    cluster.kubectl("delete", "node", "scaled-1")


DISCOVERY = "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,team=a"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cloud-provider=aws", DISCOVERY, "--scale-down-unneded-time=1m"], "unknown flag"),
        (["--cloud-provider=aws", DISCOVERY, "--scale-down-unneeded-time=1"], "must be a duration"),
        (["--cloud-provider=aws", DISCOVERY, "--scale-down-enabled=maybe"], "must be a bool"),
        (["--cloud-provider=gce", DISCOVERY], "--cloud-provider=aws only"),
        (["--cloud-provider=aws"], "--node-group-auto-discovery"),
        (["--cloud-provider=aws", "--node-group-auto-discovery=mig:x=y"], "unsupported discoverer"),
        (["--cloud-provider=aws", DISCOVERY, "--expander=cheapest"], "--expander"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(FlagError, match=words):
        parse(arguments)


def test_arguments_are_read_as_the_original_reads_them() -> None:
    flags = parse(
        [
            *("--cloud-provider", "aws", DISCOVERY, "--balance-similar-node-groups"),
            *("--skip-nodes-with-system-pods=false", "--scale-down-unneeded-time=1m30s", "--v=4"),
        ]
    )
    assert flags.tags == ({"k8s.io/cluster-autoscaler/enabled": "", "team": "a"},)
    assert flags.on("balance-similar-node-groups")
    assert not flags.on("skip-nodes-with-system-pods")
    assert flags.seconds("scale-down-unneeded-time") == 90
    assert flags.seconds("scale-down-delay-after-add") == 600
    assert flags.ignored == ("v",)
