"""Kinds of the Kubernetes plugin one by one against a real control plane."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.driver import InitializationFailed, Plugin, Refused, Resource
from tests.plugins.kubelet import deployment, in_background, made, service, wait_for

if TYPE_CHECKING:
    from sandbox.plugins.kubernetes.cluster import Cluster
    from tests.plugins.kubelet import Kubelet

PRIORITY_CLASS = "kubernetes:scheduling.k8s.io/v1:PriorityClass"
RBAC = "rbac.authorization.k8s.io/v1"
RULE = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}


def in_default(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


def binding(role: str) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "scaler", "namespace": "default"}],
    }


def egress(port: int) -> dict[str, Any]:
    rule = {"ports": [{"protocol": "UDP", "port": port}], "to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}
    return {"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"], "egress": [rule]}


def daemon_set(image: str) -> dict[str, Any]:
    labels = {"app": "device-plugin"}
    pod = {
        "nodeSelector": {"berth/test": "daemon-set"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "vllm", "image": image}],
    }
    return in_default(
        "device-plugin",
        spec={
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    )


# Type, inputs, what is changed in place, what is replaced by another value (by the path that says so).
KINDS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "kubernetes:core/v1:ServiceAccount",
        in_default("scaler", automountServiceAccountToken=True),
        {"automountServiceAccountToken": False},
        {},
    ),
    (
        "kubernetes:core/v1:ConfigMap",
        in_default("settings", data={"a": "1"}),
        {"metadata": {"name": "settings", "namespace": "default", "labels": {"a": "b"}}},
        {"data": {"a": "2"}},
    ),
    (
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        in_default("model", spec=egress(53)),
        {"spec": egress(5353)},
        {},
    ),
    (
        PRIORITY_CLASS,
        {"metadata": {"name": "serving"}, "value": 1000, "description": "a"},
        {"description": "b"},
        {},
    ),
    (
        f"kubernetes:{RBAC}:ClusterRole",
        {"metadata": {"name": "scaler"}, "rules": [RULE]},
        {"rules": [{**RULE, "verbs": ["get", "list"]}]},
        {},
    ),
    (
        f"kubernetes:{RBAC}:ClusterRoleBinding",
        {"metadata": {"name": "scaler"}, **binding("view")},
        {"subjects": [{"kind": "ServiceAccount", "name": "other", "namespace": "default"}]},
        {"roleRef": binding("edit")["roleRef"]},
    ),
    (
        f"kubernetes:{RBAC}:Role",
        in_default("scaler", rules=[{**RULE, "resources": ["configmaps"]}]),
        {"rules": [{**RULE, "resources": ["configmaps"], "verbs": ["update"]}]},
        {},
    ),
    (
        f"kubernetes:{RBAC}:RoleBinding",
        in_default("scaler", **binding("view")),
        {"subjects": []},
        {"roleRef": binding("edit")["roleRef"]},
    ),
    (
        "kubernetes:apps/v1:DaemonSet",
        # Its selector fits no node here.
        daemon_set("a"),
        {"spec": daemon_set("b")["spec"]},
        {"spec": {**daemon_set("a")["spec"], "selector": {"matchLabels": {"app": "other"}}}},
    ),
]


@pytest.mark.parametrize(
    ("type_", "inputs", "change", "replaced"), KINDS, ids=[item[0].rpartition(":")[2] for item in KINDS]
)
def test_life(
    kubernetes: Plugin,
    cluster: Cluster,
    type_: str,
    inputs: dict[str, Any],
    change: dict[str, Any],
    replaced: dict[str, Any],
) -> None:
    inputs = copy.deepcopy(inputs)
    inputs["metadata"]["name"] += "-life"
    change = copy.deepcopy(change)
    if "metadata" in change:
        change["metadata"]["name"] += "-life"
    resource = made(kubernetes, type_, "it", inputs)
    for key, value in replaced.items():
        difference = kubernetes.diff(resource, {**inputs, key: value})
        assert [path.partition(".")[0] for path in difference.replaces] == [key]
        assert difference.delete_before_replace
    assert kubernetes.diff(resource, {**inputs, **change}).replaces == []
    changed = kubernetes.update(resource, {**inputs, **change})
    read = kubernetes.read(changed)
    assert read is not None
    assert not kubernetes.diff_checked(changed, read.inputs).changes
    api_version, kind = type_.split(":")[1].removeprefix("core/"), type_.rpartition(":")[2]
    served = cluster.kind(api_version, kind)
    place = inputs["metadata"].get("namespace"), inputs["metadata"]["name"]
    live = cluster.get(served, *place)
    assert live is not None
    assert all(_agrees(value, live.get(key)) for key, value in change.items())
    kubernetes.delete(changed)
    assert cluster.get(served, *place) is None
    assert kubernetes.read(changed) is None
    kubernetes.delete(changed)


def _agrees(given: Any, live: Any) -> bool:
    """Say whether an object has what was given, whatever the server added."""
    if isinstance(given, dict):
        return isinstance(live, dict) and all(_agrees(value, live.get(key)) for key, value in given.items())
    if isinstance(given, list) and given:
        return len(given) == len(live) and all(map(_agrees, given, live))
    return given == live or (not given and not live)


def test_what_the_server_does_not_change_is_refused_in_the_preview(kubernetes: Plugin) -> None:
    inputs = {"metadata": {"name": "fixed"}, "value": 1000}
    resource = made(kubernetes, PRIORITY_CLASS, "fixed", inputs)
    assert kubernetes.diff(resource, {**inputs, "value": 2000}).replaces == []
    for preview in (True, False):
        with pytest.raises(Refused, match="value: Forbidden: may not be changed in an update"):
            kubernetes.update(resource, {**inputs, "value": 2000}, preview=preview)
    kubernetes.delete(resource)


def test_a_daemon_set_is_waited_for_on_every_node(
    kubernetes: Plugin, cluster: Cluster, kubelet: Kubelet
) -> None:
    node = {"metadata": {"name": "daemons", "labels": {"berth/test": "daemon-set"}}}
    cluster.request("POST", "/api/v1/nodes", body=node)
    room = {"pods": "10", "cpu": "4", "memory": "8Gi"}
    merge = "application/merge-patch+json"
    status = {"status": {"capacity": room, "allocatable": room}}
    cluster.request("PATCH", "/api/v1/nodes/daemons/status", body=status, content_type=merge)
    seen = len(kubernetes.statuses)
    type_ = "kubernetes:apps/v1:DaemonSet"
    thread, result = in_background(lambda: kubernetes.create(type_, "plugin", daemon_set("a"), timeout=60))
    words = "DaemonSet device-plugin: 0/1 available, pod device-plugin-"
    wait_for(lambda: any(line.startswith(words) for line in kubernetes.statuses[seen:]))
    wait_for(lambda: [pod for pod in kubelet.pods("device-plugin") if pod["spec"].get("nodeName")])
    assert not result
    kubelet.ready("device-plugin")
    thread.join(60)
    assert isinstance(result[0], Resource)
    assert result[0].outputs["status"]["numberAvailable"] == 1
    deletion, _ = in_background(lambda: kubernetes.delete(result[0]))
    kubelet.end("device-plugin")
    deletion.join(30)
    cluster.request("DELETE", "/api/v1/nodes/daemons")
    assert kubernetes.read(result[0]) is None


def test_a_load_balancer_that_nobody_makes_is_waited_for_unless_told_not_to(kubernetes: Plugin) -> None:
    inputs = service("balanced", type="LoadBalancer", loadBalancerClass="berth/graph")
    type_ = "kubernetes:core/v1:Service"
    with pytest.raises(InitializationFailed, match="no address of its load balancer yet"):
        kubernetes.create(type_, "waits", inputs, timeout=0.5)
    inputs["metadata"] = {
        "name": "unbalanced", "namespace": "default", "annotations": {"pulumi.com/skipAwait": "true"},
    }  # fmt: skip
    ports = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30081}
    inputs["spec"] = {**inputs["spec"], **ports, "ports": [{"port": 8000, "nodePort": 30080}]}
    resource = made(kubernetes, type_, "model", inputs)
    assert resource.outputs["spec"]["healthCheckNodePort"] == 30081
    kubernetes.delete(resource)


def test_an_ignored_property_is_left_to_whoever_set_it(kubernetes: Plugin, cluster: Cluster) -> None:
    inputs = deployment("scaled", replicas=1)
    inputs["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    ignored = ["spec.replicas", "metadata.labels.absent"]
    resource = kubernetes.create("kubernetes:apps/v1:Deployment", "scaled", inputs)
    path = "/apis/apps/v1/namespaces/default/deployments/scaled"
    merge = "application/merge-patch+json"

    def replicas() -> Any:
        return cluster.request("GET", path).json()["spec"]["replicas"]

    def update(image: str) -> None:
        nonlocal resource, inputs
        inputs = {**deployment("scaled", replicas=1, image=image), "metadata": inputs["metadata"]}
        resource = kubernetes.update(resource, inputs, ignore_changes=ignored)

    update("first")
    assert replicas() == 1  # still this manager's own, and not unset
    cluster.request(
        "PATCH",
        f"{path}/scale",
        params={"fieldManager": "keda"},
        body={"spec": {"replicas": 3}},
        content_type=merge,
    )
    update("second")
    assert replicas() == 3
    read = kubernetes.read(resource)
    assert read is not None
    assert read.inputs["spec"]["replicas"] == 3
    update("third")  # also after a refresh
    assert replicas() == 3
    kubernetes.update(resource, inputs)
    assert replicas() == 1
    kubernetes.delete(resource)


def test_a_custom_resource_waits_for_its_definition(kubernetes: Plugin) -> None:
    type_ = "kubernetes:berth.example.com/v1:Widget"
    inputs = in_default("one", spec={"size": 1})
    assert kubernetes.check(type_, "one", inputs)[1] == {}
    words = r'Verify that any required CRDs.*no matches for kind "Widget" in version "berth.example.com/v1"'
    with pytest.raises(Refused, match=words):
        kubernetes.create(type_, "one", inputs, timeout=0.5)
    seen = len(kubernetes.statuses)
    thread, result = in_background(lambda: kubernetes.create(type_, "one", inputs, timeout=60))
    wait_for(lambda: any("no matches for kind" in line for line in kubernetes.statuses[seen:]))
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    definition = kubernetes.create(
        "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
        "widgets",
        {
            "metadata": {"name": "widgets.berth.example.com"},
            "spec": {
                "group": "berth.example.com",
                "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
                "versions": [version],
            },
        },
    )
    thread.join(60)
    widget = result[0]
    assert isinstance(widget, Resource)
    assert widget.outputs["spec"] == {"size": 1}
    assert not kubernetes.diff(widget, inputs).changes
    assert not kubernetes.diff(widget, {**inputs, "metadata": {"name": "one"}}).changes
    _, failures = kubernetes.check(type_, "one", {**inputs, "spec": {"sise": 1}}, widget.inputs)
    assert 'unknown field "spec.sise"' in failures["spec.sise"]
    kubernetes.delete(definition)
    assert kubernetes.read(widget) is None
    kubernetes.delete(widget)
