"""What must hold for every resource of every stack."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra.gpus import INSTANCE_GPUS
from tests.infra.graph import Graph, Recorded, Secret, configuration, run

# What waits for a cloud: without limits of its own, the engine's defaults would cut it short or hang.
_WAITING = {
    "aws:codebuild/project:Project": False,
    "aws:ec2/internetGateway:InternetGateway": True,
    "aws:ec2/natGateway:NatGateway": True,
    "aws:ec2/securityGroup:SecurityGroup": True,
    "aws:ec2/subnet:Subnet": True,
    "aws:ec2/vpc:Vpc": True,
    "aws:ec2/vpcEndpoint:VpcEndpoint": True,
    "aws:eks/addon:Addon": True,
    "aws:eks/cluster:Cluster": True,
    "aws:eks/nodeGroup:NodeGroup": True,
    "aws:lb/loadBalancer:LoadBalancer": True,
    "aws:s3/bucket:Bucket": True,
    "kubernetes:apps/v1:Deployment": True,
    "kubernetes:core/v1:Namespace": True,
    "kubernetes:core/v1:Service": True,
    "pulumi-python:dynamic/image:Build": True,
    "pulumi-python:dynamic/sandbox:Clouds": True,
}


def _in_cluster(graph: Graph) -> list[Recorded]:
    return [item for item in graph if item.type.startswith("kubernetes:")]


def _containers(graph: Graph) -> list[dict[str, Any]]:
    (deployment,) = graph.of_type("kubernetes:apps/v1:Deployment")
    containers: list[dict[str, Any]] = deployment.inputs["spec"]["template"]["spec"]["containers"]
    return containers


def test_every_resource_of_a_cloud_has_an_explicit_provider_and_a_component_above_it(
    recorded: Graph,
) -> None:
    for item in recorded:
        if not item.type.startswith(("aws:", "kubernetes:")):
            continue
        package = item.type.partition(":")[0]
        assert recorded.resources[item.provider].type == f"pulumi:providers:{package}", item.urn
        assert recorded.resources[item.parent].type.startswith("berth:"), item.urn


def test_everything_says_whose_it_is(recorded: Graph, stack: str) -> None:
    owner = configuration(stack)["berth:aws"]["owner"]
    for provider in recorded.of_type("pulumi:providers:aws"):
        tags = json.loads(provider.inputs["defaultTags"])["tags"]
        assert tags == {"project": "berth", "stack": stack, "owner": owner}
    for template in recorded.of_type("aws:ec2/launchTemplate:LaunchTemplate"):
        kinds = {item["resourceType"]: item["tags"] for item in template.inputs["tagSpecifications"]}
        assert set(kinds) == {"instance", "volume", "network-interface"}
        assert all(item["stack"] == stack and item["owner"] == owner for item in kinds.values())
    for item in _in_cluster(recorded):
        labels = item.inputs["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == stack
        assert labels["berth/owner"] == owner


def test_what_waits_has_timeouts(recorded: Graph) -> None:
    for item in recorded:
        if _WAITING.get(item.type):
            assert all(item.timeouts), item.urn


def test_every_component_says_that_it_is_complete(recorded: Graph) -> None:
    components = {item.urn for item in recorded if item.type.startswith("berth:")}
    assert components == {urn for urn in recorded.completed if urn in components}


def test_images_are_known_by_digest(updated: Graph) -> None:
    digest = re.compile(r".+@sha256:[0-9a-f]{64}")
    assert all(digest.fullmatch(container["image"]) for container in _containers(updated))
    assert digest.fullmatch(updated.outputs["image"])
    (endpoint,) = updated.of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert endpoint.inputs["image"] == updated.outputs["image"]


def test_both_platforms_run_the_same_arguments(updated: Graph) -> None:
    import shlex

    (container,) = _containers(updated)
    (endpoint,) = updated.of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert shlex.split(endpoint.inputs["args"]) == container["args"]


def test_secrets_are_secret(recorded: Graph) -> None:
    (secret,) = recorded.of_type("kubernetes:core/v1:Secret")
    assert isinstance(secret.inputs["stringData"], Secret)
    (provider,) = recorded.of_type("pulumi:providers:kubernetes")
    assert isinstance(provider.inputs["kubeconfig"], Secret)
    assert isinstance(recorded.outputs["api_key"], Secret)
    assert isinstance(recorded.outputs["kubeconfig"], Secret)
    (container,) = _containers(recorded)
    (key,) = [item for item in container["env"] if item["name"] == "VLLM_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"]["key"] == "api-key"
    assert "api-key" not in " ".join(container["args"])
    (made,) = recorded.of_type("pulumi-python:dynamic/credentials:ApiKey")
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


def test_the_kubeconfig_holds_no_credentials_and_asks_aws(updated: Graph, stack: str) -> None:
    kubeconfig = json.loads(updated.outputs["kubeconfig"].value)
    (user,) = kubeconfig["users"]
    assert set(user["user"]) == {"exec"}
    assert user["user"]["exec"]["args"][:4] == ["eks", "get-token", "--cluster-name", f"berth-{stack}"]
    assert ("env" in user["user"]["exec"]) == (stack == "local")


def test_the_pod_s_budgets_add_up(updated: Graph, stack: str) -> None:
    (deployment,) = updated.of_type("kubernetes:apps/v1:Deployment")
    pod = deployment.inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = container["args"]
    shutdown = int(arguments[arguments.index("--shutdown-timeout") + 1])
    pre_stop = ((container.get("lifecycle") or {}).get("preStop") or {"sleep": {"seconds": 0}})["sleep"]
    assert pre_stop["seconds"] + shutdown <= pod["terminationGracePeriodSeconds"]
    startup = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    given = configuration(stack)["berth:serving"].get("startup_timeout_seconds", 1800)
    assert startup >= given
    assert deployment.inputs["spec"]["progressDeadlineSeconds"] > startup
    create = int(deployment.timeouts[0].removesuffix("m")) * 60
    assert create >= deployment.inputs["spec"]["progressDeadlineSeconds"]


def test_the_pod_has_no_rights_that_it_does_not_need(updated: Graph) -> None:
    (deployment,) = updated.of_type("kubernetes:apps/v1:Deployment")
    pod = deployment.inputs["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_rollout_needs_a_spare_gpu_only_where_the_stack_says_so(updated: Graph, stack: str) -> None:
    (deployment,) = updated.of_type("kubernetes:apps/v1:Deployment")
    rolling = deployment.inputs["spec"]["strategy"]["rollingUpdate"]
    surge = configuration(stack)["berth:eks"].get("surge", False)
    assert rolling == {"maxSurge": int(surge), "maxUnavailable": int(not surge)}


def test_the_machines_that_are_there_hold_every_pod_of_a_rollout(updated: Graph, stack: str) -> None:
    (deployment,) = updated.of_type("kubernetes:apps/v1:Deployment")
    spec = deployment.inputs["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    per_pod = int(container["resources"]["limits"]["nvidia.com/gpu"])
    group = updated.named("nodes-gpu").inputs
    per_node = min(INSTANCE_GPUS[name].count for name in group["instanceTypes"])
    room = int(group["scalingConfig"]["desiredSize"]) * (per_node // per_pod)
    assert spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"] <= room
    assert stack != "local" or room >= 2  # the README has its reader set `replicas` to 2


def test_what_is_protected_from_deletion_is_so_for_the_engine_too(recorded: Graph, stack: str) -> None:
    protected = {item.type for item in recorded if item.request.protect}
    wanted = {"aws:eks/cluster:Cluster", "aws:lb/loadBalancer:LoadBalancer"} if stack == "prod" else set()
    assert protected == wanted
    (cluster,) = recorded.of_type("aws:eks/cluster:Cluster")
    (balancer,) = recorded.of_type("aws:lb/loadBalancer:LoadBalancer")
    assert cluster.inputs["deletionProtection"] is (stack == "prod")
    assert balancer.inputs["enableDeletionProtection"] is (stack == "prod")


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


def test_administrators_of_several_accounts_get_in() -> None:
    arns = [f"arn:aws:iam::{account}:role/admin" for account in ("111111111111", "222222222222")]
    eks = {**configuration("dev")["berth:eks"], "admin_principal_arns": arns}
    entries = run("dev", preview=False, eks=eks).of_type("aws:eks/accessEntry:AccessEntry")
    deployer = "arn:aws:iam::123456789012:role/deployer"
    assert sorted(item.inputs["principalArn"] for item in entries) == sorted([*arns, deployer])


def test_who_deploys_is_not_an_administrator_a_second_time() -> None:
    import pulumi

    arns = ["arn:aws:iam::123456789012:role/deployer"]
    eks = {**configuration("dev")["berth:eks"], "admin_principal_arns": arns}
    with pytest.raises(pulumi.RunError, match="role/deployer, which deploys and so gets in anyway"):
        run("dev", preview=False, eks=eks)


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


def test_gpu_nodes_are_tainted_and_their_volumes_encrypted(updated: Graph) -> None:
    group = updated.named("nodes-gpu")
    assert group.inputs["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert group.inputs["amiType"].endswith("_NVIDIA")
    for template in updated.of_type("aws:ec2/launchTemplate:LaunchTemplate"):
        assert "imageId" not in template.inputs
        mappings = template.inputs["blockDeviceMappings"]
        assert [mapping["deviceName"] for mapping in mappings] == ["/dev/xvdb"]
        for mapping in mappings:
            assert mapping["ebs"]["encrypted"] == "true"
        assert template.inputs["metadataOptions"]["httpTokens"] == "required"


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


def test_names_fit_into_aws_s_limits(updated: Graph) -> None:
    limits = {
        "aws:lb/loadBalancer:LoadBalancer": 32,
        "aws:lb/targetGroup:TargetGroup": 32,
        "aws:iam/role:Role": 64,
        "aws:eks/nodeGroup:NodeGroup": 63,
        "aws:s3/bucket:Bucket": 63,
    }
    for item in updated:
        if item.type in limits:
            name = next(item.inputs[key] for key in ("nodeGroupName", "bucket", "name") if key in item.inputs)
            assert len(name) <= limits[item.type], name


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
    for item in graph:
        assert not _in_the_clear(item.inputs, "sk-given"), item.urn
        assert not _in_the_clear(item.inputs, "hf_given"), item.urn


def _in_the_clear(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(_in_the_clear(item, text) for item in value.values())
    if isinstance(value, list):
        return any(_in_the_clear(item, text) for item in value)
    return isinstance(value, str) and text in value
