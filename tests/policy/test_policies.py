"""Each policy finds what it is for, and nothing else; the project's own stacks violate none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.policy.pack import POLICIES
from tests.infra import variants
from tests.infra.graph import STACKS
from tests.policy.support import Given, of_graph, violations

if TYPE_CHECKING:
    from pulumi_policy import Policy

_DIGEST = "vllm@sha256:" + "a" * 64
_EBS = {"deviceName": "/dev/xvda", "ebs": {"encrypted": "true"}}
_METADATA = {"httpTokens": "required", "httpPutResponseHopLimit": 1.0}
_CLUSTER = {
    "vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["203.0.113.0/24"]},
    "encryptionConfig": {"resources": ["secrets"], "provider": {"keyArn": "arn"}},
}
_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
_CLOSED = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)
_OPEN = {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "tcp", "fromPort": 80.0, "toPort": 80.0}
_REDIRECT = {"type": "redirect", "redirect": {"protocol": "HTTPS", "statusCode": "HTTP_301"}}
_FORWARD = {"type": "forward", "targetGroupArn": "arn"}


def _cluster(**changes: Any) -> Given:
    return Given("aws:eks/cluster:Cluster", "it", {**_CLUSTER, **changes})


def _template(**changes: Any) -> Given:
    props = {"blockDeviceMappings": [_EBS], "metadataOptions": _METADATA, **changes}
    return Given("aws:ec2/launchTemplate:LaunchTemplate", "it", props)


def _group(**props: Any) -> Given:
    return Given("aws:eks/nodeGroup:NodeGroup", "it", props)


def _listener(name: str, port: float, protocol: str, action: dict[str, Any]) -> Given:
    props = {"port": port, "protocol": protocol, "defaultActions": [action]}
    return Given("aws:lb/listener:Listener", name, props)


def _rule(**changes: Any) -> Given:
    type_ = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    return Given(type_, "rule", {**_OPEN, **changes})


def _role_policy(statement: dict[str, Any]) -> Given:
    return Given("aws:iam/rolePolicy:RolePolicy", "it", {"policy": json.dumps({"Statement": [statement]})})


def _deployment(image: str, kind: str = "containers") -> Given:
    pod = {"containers": [{"name": "a", "image": _DIGEST}]}
    pod[kind] = [*pod.get(kind, []), {"name": "b", "image": image}]
    return Given("kubernetes:apps/v1:Deployment", "it", {"spec": {"template": {"spec": pod}}})


def _service(**spec: Any) -> Given:
    return Given("kubernetes:core/v1:Service", "it", {"spec": spec})


_BUDGET = Given(
    "aws:budgets/budget:Budget", "it", {"notifications": [{"subscriberEmailAddresses": ["a@example.com"]}]}
)
_BUCKET = Given("aws:s3/bucket:Bucket", "bucket", {"bucket": "b"})

_BAD: list[tuple[str, list[Given]]] = [
    ("cluster-api-is-limited", [_cluster(vpcConfig={"publicAccessCidrs": ["0.0.0.0/0"]})]),
    ("cluster-api-is-limited", [_cluster(vpcConfig={"publicAccessCidrs": ["10.0.0.0/8", "::/0"]})]),
    ("cluster-api-is-limited", [_cluster(vpcConfig={"endpointPublicAccess": True})]),
    ("cluster-api-is-limited", [_cluster(vpcConfig={})]),
    ("open-ports-speak-tls", [_rule()]),
    ("open-ports-speak-tls", [_rule(), _listener("http", 80.0, "HTTP", _FORWARD)]),
    ("open-ports-speak-tls", [_rule(toPort=443.0), _listener("https", 443.0, "HTTPS", _FORWARD)]),
    ("open-ports-speak-tls", [_rule(ipProtocol="-1", fromPort=None, toPort=None)]),
    ("open-ports-speak-tls", [_rule(cidrIpv4=None, cidrIpv6="::/0")]),
    (
        "open-ports-speak-tls",
        [_rule(), _listener("a", 80.0, "HTTP", _REDIRECT), _listener("b", 80.0, "HTTP", _FORWARD)],
    ),
    (
        "open-ports-speak-tls",
        [
            Given(
                "aws:ec2/securityGroup:SecurityGroup",
                "it",
                {"ingress": [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 22, "toPort": 22}]},
            )
        ],
    ),
    (
        "open-ports-speak-tls",
        [
            Given(
                "aws:ec2/securityGroupRule:SecurityGroupRule",
                "it",
                {"type": "ingress", "cidrBlocks": ["0.0.0.0/0"], "fromPort": 22, "toPort": 22},
            )
        ],
    ),
    ("services-make-no-load-balancer", [_service(type="LoadBalancer")]),
    ("encrypted-at-rest", [Given("aws:ebs/volume:Volume", "it", {"size": 10})]),
    ("encrypted-at-rest", [_template(blockDeviceMappings=[{"ebs": {"volumeSize": 1}}])]),
    ("encrypted-at-rest", [_template(blockDeviceMappings=[_EBS, {"ebs": {"encrypted": "false"}}])]),
    ("encrypted-at-rest", [_cluster(encryptionConfig=None)]),
    ("encrypted-at-rest", [_cluster(encryptionConfig={"resources": []})]),
    ("buckets-are-closed", [_BUCKET]),
    (
        "buckets-are-closed",
        [
            _BUCKET,
            Given(
                "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
                "closed",
                {**_CLOSED, "blockPublicPolicy": False},
                {"bucket": ["bucket"]},
            ),
        ],
    ),
    ("gpu-groups-are-tainted", [_group(amiType="AL2023_x86_64_NVIDIA")]),
    ("gpu-groups-are-tainted", [_group(amiType="AL2023_x86_64_STANDARD", instanceTypes=["g6.xlarge"])]),
    (
        "gpu-groups-are-tainted",
        [_group(amiType="AL2023_x86_64_NVIDIA", taints=[{**_TAINT, "effect": "PREFER_NO_SCHEDULE"}])],
    ),
    ("metadata-wants-a-token", [_template(metadataOptions=None)]),
    ("metadata-wants-a-token", [_template(metadataOptions={**_METADATA, "httpTokens": "optional"})]),
    ("metadata-wants-a-token", [_template(metadataOptions={**_METADATA, "httpPutResponseHopLimit": 2})]),
    ("images-by-digest", [_deployment("vllm:latest")]),
    ("images-by-digest", [_deployment("vllm@sha256:short")]),
    ("images-by-digest", [_deployment("busybox", "initContainers")]),
    (
        "images-by-digest",
        [
            Given(
                "kubernetes:batch/v1:CronJob",
                "it",
                {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": "a"}]}}}}}},
            )
        ],
    ),
    ("no-wildcard-actions", [_role_policy({"Effect": "Allow", "Action": "*"})]),
    ("no-wildcard-actions", [_role_policy({"Effect": "Allow", "Action": ["s3:GetObject", "s3:*"]})]),
    ("no-wildcard-actions", [_role_policy({"Effect": "Allow", "NotAction": "iam:PassRole"})]),
    (
        "no-wildcard-actions",
        [
            Given(
                "aws:iam/role:Role",
                "it",
                {"inlinePolicies": [{"policy": '{"Statement": {"Effect": "Allow", "Action": "ec2:*"}}'}]},
            )
        ],
    ),
    (
        "no-wildcard-actions",
        [
            Given(
                "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
                "it",
                {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
            )
        ],
    ),
]

_GOOD: list[list[Given]] = [
    [_cluster(), _template()],
    [_cluster(vpcConfig={"endpointPublicAccess": False})],
    [_rule(cidrIpv4="203.0.113.0/24")],
    [_rule(), _listener("http", 80.0, "HTTP", _REDIRECT)],
    [_rule(fromPort=443.0, toPort=443.0), _listener("https", 443.0, "HTTPS", _FORWARD)],
    [_service(type="ClusterIP"), Given("kubernetes:core/v1:Service", "b", {"spec": {}})],
    [_service(type="LoadBalancer", loadBalancerClass="berth/graph")],
    [
        _BUCKET,
        Given(
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            "closed",
            _CLOSED,
            {"bucket": ["bucket"]},
        ),
    ],
    [_group(amiType="AL2023_x86_64_NVIDIA", instanceTypes=["g6.xlarge"], taints=[_TAINT])],
    [_group(amiType="AL2023_x86_64_STANDARD", instanceTypes=["t3.large"])],
    [_deployment(_DIGEST)],
    [_role_policy({"Effect": "Deny", "Action": "*"})],
    [_role_policy({"Effect": "Allow", "Action": "s3:Get*"})],
]


@pytest.mark.parametrize(("policy", "resources"), _BAD)
def test_what_is_bad_violates_its_policy_alone(policy: str, resources: list[Given]) -> None:
    found = violations(resources)
    assert {name for name, _ in found} == {policy}
    assert all(any(item.name in message for item in resources) for _, message in found)


@pytest.mark.parametrize("resources", _GOOD)
def test_what_is_good_violates_nothing(resources: list[Given]) -> None:
    assert violations(resources) == []


def test_every_policy_has_a_case() -> None:
    assert {name for name, _ in _BAD} | {"prod-has-a-budget"} == {policy.name for policy in POLICIES}


@pytest.mark.parametrize(
    ("stack", "resources", "violated"),
    [
        ("prod", [_cluster()], True),
        ("prod", [_cluster(), Given("aws:budgets/budget:Budget", "b", {"notifications": []})], True),
        ("prod", [_cluster(), _BUDGET], False),
        ("dev", [_cluster()], False),
    ],
)
def test_prod_has_a_budget_that_somebody_hears_of(stack: str, resources: list[Given], violated: bool) -> None:
    # A logical name is used once in these lists.
    resources = [Given(item.type, f"{item.name}-{index}", item.props) for index, item in enumerate(resources)]
    assert [name for name, _ in violations(resources, stack)] == ["prod-has-a-budget"] * violated


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_policy_says_what_it_wants(policy: Policy) -> None:
    assert policy.description.endswith(".")
    assert len({item.name for item in POLICIES}) == len(POLICIES) <= 10


@pytest.mark.parametrize("shape", [*STACKS, *variants.VARIANTS])
def test_the_project_s_own_stacks_violate_no_policy(shape: str) -> None:
    stack = shape if shape in STACKS else variants.sections(shape)[0]
    assert violations(of_graph(variants.recorded(shape, False)), stack) == []
