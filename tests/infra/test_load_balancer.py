"""The load balancer: who reaches it, what it lets through, when it takes a machine out of use."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.graph import configuration, run

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"
_FULL = {
    "internal": False,
    "certificate_arn": _CERTIFICATE,
    "host_name": "model.example.com",
    "allowed_cidrs": ["198.51.100.0/24", "203.0.113.0/24"],
    "access_logs": True,
    "waf": {"requests_per_5_minutes": 500},
}
_PLAIN = {"internal": True}
_GROUPS = {
    "small": {"instance_types": ["g6.2xlarge"]},
    "large": {"instance_types": ["g6.12xlarge"]},
}
_INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"


@functools.cache
def _graph(kind: str, preview: bool = False) -> Graph:
    eks = configuration("dev")["berth:eks"]
    balancers: dict[str, dict[str, Any]] = {
        "full": _FULL,
        "kept": _FULL,
        "plain": _PLAIN,
        "other port": {**_FULL, "port": 8443},
    }
    changes = {
        "load_balancer": balancers[kind],
        "gpu_node_groups": _GROUPS,
        "replicas": 2,
        "surge": False,
        "deletion_protection": kind == "kept",
    }
    return run("dev", preview=preview, targets=["eks"], eks={**eks, **changes})


def _balancer(graph: Graph) -> Recorded:
    (found,) = graph.of_type("aws:lb/loadBalancer:LoadBalancer")
    return found


def _policies(graph: Graph) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = []
    types = ("aws:s3/bucketPolicy:BucketPolicy", "aws:iam/rolePolicy:RolePolicy")
    for item in graph.of_type(*types):
        statements += json.loads(item.inputs["policy"])["Statement"]
    return statements


def test_with_a_certificate_http_only_points_to_https() -> None:
    graph = _graph("full")
    listeners = {item.inputs["port"]: item.inputs for item in graph.of_type("aws:lb/listener:Listener")}
    assert set(listeners) == {443, 80}
    assert listeners[443]["protocol"] == "HTTPS"
    assert listeners[443]["certificateArn"] == _CERTIFICATE
    assert listeners[443]["sslPolicy"].startswith("ELBSecurityPolicy-TLS13-")
    (action,) = listeners[80]["defaultActions"]
    assert action["redirect"] == {"protocol": "HTTPS", "port": "443", "statusCode": "HTTP_301"}
    (https,) = (item.urn for item in graph.of_type("aws:lb/listener:Listener") if item.inputs["port"] == 443)
    for rule in graph.of_type("aws:lb/listenerRule:ListenerRule"):
        assert https in rule.edges  # nothing is let through without encryption


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("full", "https://model.example.com/v1"),
        ("other port", "https://model.example.com:8443/v1"),
        ("plain", "http://lb.example:80/v1"),
    ],
)
def test_the_url_is_the_one_that_clients_use(kind: str, url: str) -> None:
    assert _graph(kind).outputs["endpoints"]["eks"]["url"] == url


def test_only_named_networks_reach_it_and_it_only_the_model_s_ports() -> None:
    graph = _graph("full")
    into = [item.inputs for item in graph.of_type(_INGRESS) if item.name.startswith("load-balancer-from-")]
    assert sorted((item["cidrIpv4"], item["fromPort"], item["toPort"]) for item in into) == sorted(
        (cidr, port, port) for cidr in ("198.51.100.0/24", "203.0.113.0/24") for port in (80, 443)
    )
    out = [item.inputs for item in graph.of_type(_EGRESS) if item.name.startswith("load-balancer-")]
    assert {item["fromPort"] for item in out} == {30080, 30081}
    assert all("cidrIpv4" not in item for item in out)
    nodes = [item for item in graph.of_type(_INGRESS) if item.name.startswith("load-balancer-into-nodes")]
    assert {item.inputs["fromPort"] for item in nodes} == {30080, 30081}
    needed = graph.needs(_balancer(graph).urn)
    assert {item.urn for item in nodes} <= needed


def test_without_named_networks_the_cluster_s_own_reaches_it() -> None:
    graph = _graph("plain")
    (rule,) = [item for item in graph.of_type(_INGRESS) if item.name.startswith("load-balancer-from-")]
    (vpc,) = graph.of_type("aws:ec2/vpc:Vpc")
    assert rule.inputs["cidrIpv4"] == vpc.inputs["cidrBlock"]
    assert _balancer(graph).inputs["internal"] is True


@pytest.mark.parametrize("kind", ["full", "plain"])
def test_what_is_no_proper_request_is_not_passed_on(kind: str) -> None:
    inputs = _balancer(_graph(kind)).inputs
    assert inputs["dropInvalidHeaderFields"] is True
    assert inputs["desyncMitigationMode"] == "strictest"
    assert inputs["preserveHostHeader"] is True


def test_machines_are_asked_where_kubernetes_answers_for_their_pods() -> None:
    (targets,) = _graph("plain").of_type("aws:lb/targetGroup:TargetGroup")
    check = targets.inputs["healthCheck"]
    assert (check["port"], check["path"], check["matcher"]) == ("30081", "/healthz", "200")
    assert check["timeout"] < check["interval"]
    assert targets.inputs["port"] == 30080


def test_the_machines_of_every_gpu_group_are_targets() -> None:
    graph = _graph("plain")
    attached = graph.of_type("aws:autoscaling/attachment:Attachment")
    groups = [item for item in graph.of_type("aws:eks/nodeGroup:NodeGroup") if item.inputs.get("taints")]
    assert len(groups) == len(_GROUPS)
    assert sorted(item.inputs["autoscalingGroupName"] for item in attached) == sorted(
        f"{group.name}-asg" for group in groups
    )


def test_the_first_token_may_take_as_long_as_the_idle_timeout() -> None:
    graph = _graph("plain")
    idle = _balancer(graph).inputs["idleTimeout"]
    spec = graph.named("model-deployment").inputs["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert int(environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > idle
    arguments = container["args"]
    assert 0 < int(arguments[arguments.index("--sse-keep-alive-interval") + 1]) <= idle / 2


@pytest.mark.parametrize("preview", [True, False])
def test_access_logs_go_to_a_private_bucket_that_only_load_balancers_write_to(preview: bool) -> None:
    graph = _graph("full", preview)
    assert _balancer(graph).inputs["accessLogs"]["enabled"] is True
    name = "load-balancer-access-logs"
    bucket = graph.named(name)
    assert bucket.inputs["forceDestroy"] is True
    closed = graph.named(f"{name}-closed").inputs
    assert [closed[key] for key in ("blockPublicAcls", "blockPublicPolicy")] == [True, True]
    assert [closed[key] for key in ("ignorePublicAcls", "restrictPublicBuckets")] == [True, True]
    (rule,) = graph.named(f"{name}-encryption").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "AES256"
    rules = {rule["id"]: rule for rule in graph.named(f"{name}-lifecycle").inputs["rules"]}
    assert rules["expiry"]["expiration"]["days"] == configuration("dev")["berth:eks"]["log_retention_days"]
    # AWS writes a test file when logs are asked for, and logs until the load balancer is gone.
    assert graph.named(f"{name}-policy").urn in graph.needs(_balancer(graph).urn)


def test_the_bucket_s_policy_is_for_one_service_and_one_account() -> None:
    (policy,) = _graph("full").of_type("aws:s3/bucketPolicy:BucketPolicy")
    (statement,) = json.loads(policy.inputs["policy"])["Statement"]
    assert statement["Principal"] == {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
    assert statement["Action"] == "s3:PutObject"
    prefix = _balancer(_graph("full")).inputs["accessLogs"]["prefix"]
    assert statement["Resource"].endswith(f"/{prefix}/AWSLogs/123456789012/*")


def test_protected_logs_are_not_deleted_with_their_bucket() -> None:
    assert _graph("kept").named("load-balancer-access-logs").inputs["forceDestroy"] is False


def test_the_web_acl_limits_addresses_and_does_not_read_prompts() -> None:
    graph = _graph("full")
    (acl,) = graph.of_type("aws:wafv2/webAcl:WebAcl")
    rules = {rule["name"]: rule for rule in acl.inputs["rules"]}
    limit = rules["requests-of-one-address"]
    assert limit["action"] == {"block": {}}
    assert limit["statement"]["rateBasedStatement"]["limit"] == 500
    assert limit["statement"]["rateBasedStatement"]["evaluationWindowSec"] == 300
    for group in ("AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet"):
        statement = rules[group]["statement"]["managedRuleGroupStatement"]
        assert rules[group]["overrideAction"] == {"none": {}}
        overrides = {item["name"]: item["actionToUse"] for item in statement["ruleActionOverrides"]}
        assert overrides
        assert all(name.endswith("_BODY") and action == {"count": {}} for name, action in overrides.items())
    assert len({rule["priority"] for rule in rules.values()}) == len(rules) == 3
    shown = [acl.inputs["visibilityConfig"], *(rule["visibilityConfig"] for rule in rules.values())]
    assert not any(item["sampledRequestsEnabled"] for item in shown)  # samples hold the API key
    (association,) = graph.of_type("aws:wafv2/webAclAssociation:WebAclAssociation")
    assert {acl.urn, _balancer(graph).urn} <= association.edges


def test_what_is_not_asked_for_is_not_there() -> None:
    graph = _graph("plain")
    assert not [item for item in graph if item.type.startswith("aws:wafv2/")]
    assert not [item for item in graph if "access-logs" in item.name]
    (listener,) = graph.of_type("aws:lb/listener:Listener")
    assert (listener.inputs["protocol"], listener.inputs["port"]) == ("HTTP", 80)


def test_no_policy_allows_every_action() -> None:
    for statement in _policies(_graph("full")):
        actions = statement["Action"]
        assert not any("*" in action for action in ([actions] if isinstance(actions, str) else actions))
