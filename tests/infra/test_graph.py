"""What a stack's graph says: what is served, who gets in, and what is there for which targets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.gpus import INSTANCE_GPUS
from tests.infra.contracts import in_the_clear
from tests.infra.graph import Graph, Recorded, Secret, configuration, run


def _deployment(graph: Graph) -> Recorded:
    return graph.named("model-deployment")


def _containers(graph: Graph) -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = _deployment(graph).inputs["spec"]["template"]["spec"]["containers"]
    return containers


def test_both_platforms_run_the_same_arguments(updated: Graph) -> None:
    import shlex

    (container,) = _containers(updated)
    (endpoint,) = updated.of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert shlex.split(endpoint.inputs["args"]) == container["args"]


def test_secrets_are_secret(recorded: Graph) -> None:
    for secret in recorded.of_type("kubernetes:core/v1:Secret"):
        assert isinstance(secret.inputs["stringData"], Secret)
    (provider,) = recorded.of_type("pulumi:providers:kubernetes")
    assert isinstance(provider.inputs["kubeconfig"], Secret)
    assert isinstance(recorded.outputs["api_key"], Secret)
    assert isinstance(recorded.outputs["kubeconfig"], Secret)
    (container,) = _containers(recorded)
    (key,) = [item for item in container["env"] if item["name"] == "VLLM_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"]["key"] == "api-key"
    assert "api-key" not in " ".join(container["args"])
    for made in recorded.of_type("pulumi-python:dynamic/credentials:ApiKey"):
        assert list(made.request.additionalSecretOutputs) == ["key"]


def test_the_cloud_s_credentials_are_secret_and_of_the_sandbox_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    (local,) = run("local", preview=False).of_type("pulumi:providers:aws")
    assert local.inputs["secretKey"] == Secret("the-secret")
    (cloud,) = run("dev", preview=False).of_type("pulumi:providers:aws")
    assert "the-secret" not in str(cloud.inputs)


def test_a_rollout_needs_a_spare_gpu_only_where_the_stack_says_so(updated: Graph, stack: str) -> None:
    rolling = _deployment(updated).inputs["spec"]["strategy"]["rollingUpdate"]
    surge = configuration(stack)["berth:eks"].get("surge", False)
    assert rolling == {"maxSurge": int(surge), "maxUnavailable": int(not surge)}


def test_the_machines_that_may_be_there_hold_every_pod_of_a_rollout(updated: Graph, stack: str) -> None:
    spec = _deployment(updated).inputs["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    per_pod = int(container["resources"]["limits"]["nvidia.com/gpu"])
    bound = "maxSize" if configuration(stack)["berth:eks"].get("cluster_autoscaler") else "desiredSize"
    room = sum(
        int(group.inputs["scalingConfig"][bound])
        * (min(INSTANCE_GPUS[name].count for name in group.inputs["instanceTypes"]) // per_pod)
        for group in updated.of_type("aws:eks/nodeGroup:NodeGroup")
        if group.inputs.get("taints")
    )
    assert spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"] <= room
    assert stack != "local" or room >= 2  # the README has its reader set `replicas` to 2


def test_nodes_are_of_the_cluster_s_version(updated: Graph) -> None:
    (cluster,) = updated.of_type("aws:eks/cluster:Cluster")
    for group in updated.of_type("aws:eks/nodeGroup:NodeGroup"):
        assert group.inputs["version"] == cluster.inputs["version"]
        assert cluster.urn in updated.needs(group.urn)


def test_another_kind_of_load_balancer_gets_a_target_group_of_its_own() -> None:
    eks = configuration("dev")["berth:eks"]
    public = {**eks, "load_balancer": {"internal": False, "allowed_cidrs": ["203.0.113.0/24"]}}
    graphs = [run("dev", preview=False, eks=section) for section in (eks, public)]
    for type_ in ("aws:lb/loadBalancer:LoadBalancer", "aws:lb/targetGroup:TargetGroup"):
        before, after = (graph.of_type(type_)[0].inputs["name"] for graph in graphs)
        assert before != after


@pytest.mark.parametrize(
    "endpoint",
    ["", "https://eks.us-east-1.amazonaws.com", "http://127.0.0.1.example.com", "http://10.0.0.1:4566"],
)
def test_the_stack_local_takes_no_keys_but_the_sandbox_s(endpoint: str) -> None:
    import pulumi

    with pytest.raises(pulumi.RunError, match=r"\./berth env --stack local"):
        run("local", preview=True, aws_endpoint=endpoint)


def test_the_load_balancer_lets_only_the_task_s_paths_through(updated: Graph) -> None:
    (listener,) = updated.of_type("aws:lb/listener:Listener")
    assert listener.inputs["defaultActions"][0]["fixedResponse"]["statusCode"] == "404"
    paths = [
        path
        for rule in updated.of_type("aws:lb/listenerRule:ListenerRule")
        for condition in rule.inputs["conditions"]
        for path in condition["pathPattern"]["values"]
    ]
    assert set(paths) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/models",
        "/health",
    }
    for rule in updated.of_type("aws:lb/listenerRule:ListenerRule"):
        assert len(rule.inputs["conditions"][0]["pathPattern"]["values"]) <= 5


def test_nobody_on_the_internet_reaches_the_model_or_the_cluster(updated: Graph) -> None:
    for rule in updated.of_type("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"):
        assert rule.inputs.get("cidrIpv4") != "0.0.0.0/0"
    (cluster,) = updated.of_type("aws:eks/cluster:Cluster")
    assert "0.0.0.0/0" not in cluster.inputs["vpcConfig"]["publicAccessCidrs"]


@pytest.mark.parametrize("preview", [True, False])
def test_with_runpod_alone_there_is_nothing_of_kubernetes(stack: str, preview: bool) -> None:
    graph = run(stack, preview=preview, targets=["runpod"])
    types = {item.type for item in graph}
    assert not [item for item in types if item.startswith(("kubernetes:", "aws:eks", "aws:ec2", "aws:lb"))]
    assert "pulumi:providers:kubernetes" not in types
    assert set(graph.outputs["endpoints"]) == {"runpod"}
    assert "api_key" not in graph.outputs


def test_with_eks_alone_there_is_nothing_of_runpod(stack: str) -> None:
    graph = run(stack, preview=False, targets=["eks"])
    assert not [item for item in graph if "runpod" in item.type.lower()]
    assert not [item for item in graph if item.type == "aws:ecr/repositoryPolicy:RepositoryPolicy"]
    assert set(graph.outputs["endpoints"]) == {"eks"}


def test_a_prebuilt_image_needs_no_builder() -> None:
    reference = "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "b" * 64
    graph = run("dev", preview=False, image={"builder": "prebuilt", "reference": reference})
    assert graph.outputs["image"] == reference
    assert not [item for item in graph if "codebuild" in item.type or ":ecr/" in item.type]


def test_wrong_settings_are_said_without_a_stack_trace() -> None:
    import pulumi

    with pytest.raises(pulumi.RunError, match=r"stacks/Pulumi.dev.yaml: berth:targets = \"gcp\""):
        run("dev", preview=True, targets="gcp")


def test_given_secrets_are_used_and_stay_secret() -> None:
    graph = run("dev", preview=False, apiKey="sk-given", hubToken="hf_given")
    assert not [item for item in graph if item.type.endswith(":ApiKey")]
    assert graph.outputs["api_key"] == Secret("sk-given")
    (secret,) = graph.of_type("kubernetes:core/v1:Secret")
    assert secret.inputs["stringData"] == Secret({"api-key": "sk-given", "hub-token": "hf_given"})
    (endpoint,) = graph.of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert isinstance(endpoint.inputs["env"], Secret)
    assert endpoint.inputs["env"].value["HF_TOKEN"] == "hf_given"
    for place, shown in in_the_clear(graph).items():
        assert "sk-given" not in json.dumps(shown), place
        assert "hf_given" not in json.dumps(shown), place
