"""The model's pods in the cluster: their life, rights, place and neighbours."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest

from infra.serving import IMAGE_CACHE_PATH
from infra.timing import LOAD_BALANCER_CHECK
from tests.infra.graph import ROOT, configuration, run

if TYPE_CHECKING:
    from tests.infra.graph import Graph

_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
_DISRUPTIONS = "kubernetes:policy/v1:PodDisruptionBudget"


@functools.cache
def _changed(what: str) -> Graph:
    """Return the graph of dev with a thing changed, or of another stack."""
    eks = configuration("dev")["berth:eks"]
    model = configuration("dev")["berth:model"]
    if what == "weights in the image":
        return run("dev", preview=False, model={**model, "weights": "image"}, hubToken="hf_given")
    if what == "scaled":
        scaled = {key: value for key, value in eks.items() if key != "replicas"} | {
            "gpu_node_groups": {"gpu": {"instance_types": ["g6.2xlarge"], "max": 3}},
            "cluster_autoscaler": True,
            "surge": False,
            "monitoring": {},
            "autoscaling": {"min_replicas": 2, "max_replicas": 3},
        }
        return run("dev", preview=False, eks=scaled)
    if what == "four pods on a machine":
        groups = {"gpu": {"instance_types": ["g6.12xlarge"], "max": 2, "desired": 2}}
        changes = {"gpu_node_groups": groups, "cluster_autoscaler": False, "replicas": 7, "surge": True}
        return run("dev", preview=False, targets=["eks"], eks={**eks, **changes})
    return run(what, preview=False)


@pytest.fixture(params=["local", "prod"])
def graph(request: pytest.FixtureRequest) -> Graph:
    found: Graph = _changed(request.param)
    return found


def _deployment(graph: Graph) -> dict[str, Any]:
    inputs: dict[str, Any] = graph.named("model-deployment").inputs["spec"]
    return inputs


def _pod(graph: Graph) -> dict[str, Any]:
    pod: dict[str, Any] = _deployment(graph)["template"]["spec"]
    return pod


def _environment(graph: Graph) -> dict[str, Any]:
    (container,) = _pod(graph)["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_a_pod_that_goes_serves_until_the_load_balancer_knows(graph: Graph) -> None:
    pod = _pod(graph)
    (container,) = pod["containers"]
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    (targets,) = graph.of_type("aws:lb/targetGroup:TargetGroup")
    check = targets.inputs["healthCheck"]
    assert pre_stop >= int(check["interval"]) * int(check["unhealthyThreshold"]) + 5
    arguments = container["args"]
    shutdown = int(arguments[arguments.index("--shutdown-timeout") + 1])
    assert pre_stop + shutdown < pod["terminationGracePeriodSeconds"]
    assert int(targets.inputs["deregistrationDelay"]) == pre_stop + shutdown


def test_only_the_startup_probe_has_the_startup_budget(graph: Graph) -> None:
    (container,) = _pod(graph)["containers"]
    probes = {key: container[key] for key in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == {"/health"}
    waits = {key: probe["periodSeconds"] * probe["failureThreshold"] for key, probe in probes.items()}
    budget = int(_environment(graph)["VLLM_ENGINE_READY_TIMEOUT_S"])
    assert waits["startupProbe"] >= budget > waits["livenessProbe"] > waits["readinessProbe"]
    assert _deployment(graph)["progressDeadlineSeconds"] > waits["startupProbe"]


def test_the_service_keeps_addresses_and_says_where_pods_are(graph: Graph) -> None:
    service = graph.named("model-service").inputs
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}
    spec = service["spec"]
    assert (spec["type"], spec["loadBalancerClass"]) == ("LoadBalancer", "berth/graph")
    assert spec["externalTrafficPolicy"] == "Local"
    assert spec["healthCheckNodePort"] == 30081
    assert [port["nodePort"] for port in spec["ports"]] == [30080]
    assert spec["selector"] == _deployment(graph)["selector"]["matchLabels"]


def test_the_pod_passes_the_strictest_of_kubernetes_pod_security_standards(graph: Graph) -> None:
    labels = graph.named("model-namespace").inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = _pod(graph)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"])


def test_the_pod_has_no_token_of_the_cluster(graph: Graph) -> None:
    pod = _pod(graph)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    account = graph.named("model-account").inputs
    assert account["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == account["metadata"]["name"]


def test_all_caches_of_the_image_are_on_a_volume_with_a_limit(graph: Graph) -> None:
    pod = _pod(graph)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert set(mounts) == set(volumes) == {"shm", "cache"}
    assert all(re.fullmatch(r"\d+Gi", volume["sizeLimit"]) for volume in volumes.values())
    assert volumes["shm"]["medium"] == "Memory"
    assert mounts["cache"] == IMAGE_CACHE_PATH
    dockerfile = (ROOT / "image" / "Dockerfile").read_text()
    places = re.findall(r"(?:HF_HOME|VLLM_CACHE_ROOT|XDG_CACHE_HOME|\w+_CACHE_DIR)=(/home\S+)", dockerfile)
    assert len(places) == 5
    assert all(place.startswith(IMAGE_CACHE_PATH) for place in places)


def test_what_has_no_priority_makes_room_for_the_model(graph: Graph) -> None:
    (priority,) = graph.of_type("kubernetes:scheduling.k8s.io/v1:PriorityClass")
    assert 0 < priority.inputs["value"] < 1_000_000_000  # what users may give; the system's are above
    assert not priority.inputs.get("globalDefault")
    assert _pod(graph)["priorityClassName"] == priority.inputs["metadata"]["name"]


def test_replicas_are_spread_where_that_is_possible(graph: Graph) -> None:
    spread = _pod(graph)["topologySpreadConstraints"]
    assert {item["topologyKey"] for item in spread} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    selector = _deployment(graph)["selector"]
    assert all(item["whenUnsatisfiable"] == "ScheduleAnyway" for item in spread)
    assert all(item["labelSelector"] == selector for item in spread)


def test_nothing_reaches_the_pods_but_the_load_balancer(graph: Graph) -> None:
    deny = graph.named("model-default-deny").inputs["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policy = graph.named("model-traffic").inputs["spec"]
    assert policy["podSelector"] == _deployment(graph)["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    sources = [source["ipBlock"]["cidr"] for source in rule["from"] if "ipBlock" in source]
    watched = [item for item in graph if item.type == "berth:eks:Monitoring"]
    assert len(rule["from"]) == len(sources) + len(watched)
    (balancer,) = graph.of_type("aws:lb/loadBalancer:LoadBalancer")
    subnets = {f"{item.name}-id": item.inputs["cidrBlock"] for item in graph.of_type("aws:ec2/subnet:Subnet")}
    assert sorted(sources) == sorted(subnets[id_] for id_ in balancer.inputs["subnets"])
    machines = {
        subnet
        for group in graph.of_type("aws:eks/nodeGroup:NodeGroup")
        for subnet in group.inputs["subnetIds"]
    }
    assert not machines & set(balancer.inputs["subnets"])


def test_the_pods_reach_names_and_the_hub_but_nothing_private(graph: Graph) -> None:
    dns, world = graph.named("model-traffic").inputs["spec"]["egress"]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    (resolver,) = dns["to"]
    assert resolver["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert resolver["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert world["ports"] == [{"port": 443, "protocol": "TCP"}]
    (anywhere,) = world["to"]
    assert anywhere["ipBlock"]["cidr"] == "0.0.0.0/0"
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(
        anywhere["ipBlock"]["except"]
    )


def test_policies_and_priority_are_there_before_the_pods_and_go_after_them(graph: Graph) -> None:
    needed = graph.needs(graph.named("model-deployment").urn)
    before = [*graph.of_type(_POLICY), graph.named("model-priority"), graph.named("model-account")]
    assert {item.urn for item in before} <= needed


def test_with_weights_in_the_image_the_pods_reach_nothing_and_hold_no_token() -> None:
    graph = _changed("weights in the image")
    assert graph.named("model-traffic").inputs["spec"]["egress"] == []
    environment = _environment(graph)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in environment
    assert set(graph.named("model-secret").inputs["stringData"].value) == {"api-key"}


def test_replicas_by_load_are_not_set_back() -> None:
    graph = _changed("scaled")
    deployment = graph.named("model-deployment")
    assert list(deployment.request.ignoreChanges) == ["spec.replicas"]
    assert deployment.inputs["spec"]["replicas"] == 2
    assert int(deployment.timeouts[1].removesuffix("m")) * 60 >= (
        3 * deployment.inputs["spec"]["progressDeadlineSeconds"]
    )
    assert not list(_changed("local").named("model-deployment").request.ignoreChanges)


def test_monitoring_may_read_the_metrics() -> None:
    graph = _changed("scaled")
    (rule,) = graph.named("model-traffic").inputs["spec"]["ingress"]
    spaces = [source["namespaceSelector"] for source in rule["from"] if "namespaceSelector" in source]
    (space,) = spaces
    name = space["matchLabels"]["kubernetes.io/metadata.name"]
    namespaces = graph.of_type("kubernetes:core/v1:Namespace")
    assert name in {item.inputs["metadata"]["name"] for item in namespaces} - {"berth"}


def test_a_machine_can_get_rid_of_all_its_pods() -> None:
    for what, wanted in (("prod", 1), ("four pods on a machine", 4)):
        (budget,) = _changed(what).of_type(_DISRUPTIONS)
        assert budget.inputs["spec"]["maxUnavailable"] == wanted, what


def test_a_rollout_takes_a_spare_gpu_only_where_there_is_one() -> None:
    surging = _deployment(_changed("four pods on a machine"))["strategy"]["rollingUpdate"]
    assert surging == {"maxSurge": 1, "maxUnavailable": 0}
    in_place = _deployment(_changed("prod"))["strategy"]["rollingUpdate"]
    assert in_place == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_health_check_is_as_quick_as_aws_allows() -> None:
    assert (LOAD_BALANCER_CHECK.period_seconds, LOAD_BALANCER_CHECK.failure_threshold) == (5, 2)
    assert LOAD_BALANCER_CHECK.timeout_seconds < LOAD_BALANCER_CHECK.period_seconds
