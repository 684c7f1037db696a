"""What the AWS plugin refuses before anything is made, and what it makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.engine.values import UNKNOWN, Unknown
from tests.plugins.driver import Refused

if TYPE_CHECKING:
    from tests.plugins.driver import Plugin

NODE_GROUP = {
    "clusterName": "c",
    "nodeRoleArn": "arn:aws:iam::123456789012:role/r",
    "subnetIds": ["subnet-1"],
    "scalingConfig": {"desiredSize": 1, "minSize": 0, "maxSize": 1},
}
NODE_GROUP_TYPE = "aws:eks/nodeGroup:NodeGroup"


@pytest.mark.parametrize(
    ("change", "property_", "words"),
    [
        ({"subnetIDs": []}, "subnetIDs", "did you mean 'subnetIds'"),
        ({"nodeRoleArn": None}, "nodeRoleArn", "missing required property"),
        ({"subnetIds": "subnet-1"}, "subnetIds", "must be a list"),
        ({"labels": {"a": ["b"]}}, "labels.a", "must be a string"),
        ({"scalingConfig": {"desiredSize": 1, "minSize": 0}}, "scalingConfig.maxSize", "missing required"),
        (
            {"scalingConfig": {"desiredSize": "one", "minSize": 0, "maxSize": 1}},
            "scalingConfig.desiredSize",
            "must be a whole number, not 'one'",
        ),
        ({"taints": [{"key": "a", "efect": "NO_SCHEDULE"}]}, "taints[0].efect", "did you mean 'effect'"),
        ({"nodeGroupNamePrefix": "x"}, "nodeGroupNamePrefix", "not supported by this plugin"),
    ],
)
def test_refuses_by_name(aws: Plugin, change: dict[str, Any], property_: str, words: str) -> None:
    _, failures = aws.check(NODE_GROUP_TYPE, "gpu", {**NODE_GROUP, **change})
    assert words in failures[property_]


def test_takes_values_that_are_not_known_yet(aws: Plugin) -> None:
    inputs, failures = aws.check(
        NODE_GROUP_TYPE, "gpu", {**NODE_GROUP, "subnetIds": UNKNOWN, "clusterName": UNKNOWN}
    )
    assert not failures
    assert isinstance(inputs["subnetIds"], Unknown)


def test_writes_a_policy_given_as_an_object_as_json(aws: Plugin) -> None:
    inputs, failures = aws.check(
        "aws:ecr/repositoryPolicy:RepositoryPolicy", "p", {"repository": "r", "policy": {"b": 1, "a": {}}}
    )
    assert not failures
    assert inputs["policy"] == '{"a": {}, "b": 1}'


def test_makes_up_the_same_name_every_time_and_keeps_the_one_in_state(aws: Plugin) -> None:
    role = {"assumeRolePolicy": "{}"}
    first, _ = aws.check("aws:iam/role:Role", "Node Role", role)
    again, _ = aws.check("aws:iam/role:Role", "Node Role", role)
    other, _ = aws.check("aws:iam/role:Role", "other", role)
    assert first["name"] == again["name"] != other["name"]
    assert first["name"].startswith("Node-Role-")
    kept, _ = aws.check("aws:iam/role:Role", "Node Role", role, {**first, "name": "Node-Role-0ldname"})
    assert kept["name"] == "Node-Role-0ldname"


def test_the_successor_of_an_object_gets_another_name(aws: Plugin) -> None:
    role = {"assumeRolePolicy": "{}"}
    first, _ = aws.check("aws:iam/role:Role", "successor", role)
    aws.check("aws:iam/role:Role", "successor", role, first)
    replacement, _ = aws.check("aws:iam/role:Role", "successor", role)
    assert replacement["name"] != first["name"]


def test_names_fit_their_limits(aws: Plugin) -> None:
    balancer, _ = aws.check("aws:lb/loadBalancer:LoadBalancer", "x" * 60, {})
    bucket, _ = aws.check("aws:s3/bucket:Bucket", "Upper_Case", {})
    assert len(balancer["name"]) == 32
    assert bucket["bucket"].startswith("upper-case-")


def test_refuses_types_and_functions_that_it_does_not_have(aws: Plugin) -> None:
    with pytest.raises(Refused, match="aws:sqs/queue:Queue is not supported by this plugin"):
        aws.check("aws:sqs/queue:Queue", "q", {})
    with pytest.raises(Refused, match="getAmi is not supported"):
        aws.invoke("aws:ec2/getAmi:getAmi", {})


def test_refuses_settings_of_the_provider(aws: Plugin) -> None:
    failures = aws.check_config({"region": "us-east-1", "regoin": "x", "assumeRoles": "[]"})
    assert "did you mean 'region'" in failures["regoin"]
    assert "not supported by this plugin" in failures["assumeRoles"]
    assert "region" not in failures


def test_another_region_replaces_the_provider_and_another_endpoint_does_not(aws: Plugin) -> None:
    moved = aws.diff_config({"region": "us-east-1"}, {"region": "us-west-2"})
    assert moved.replaces == ["region"]
    pointed = aws.diff_config({"endpoints": '[{"ec2": "http://a"}]'}, {"endpoints": '[{"ec2": "http://b"}]'})
    assert pointed.changes
    assert pointed.replaces == []


def test_a_preview_says_what_is_known(aws: Plugin) -> None:
    planned = aws.preview("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.0.0.0/16", "tags": {"Name": "n"}})
    assert planned["cidrBlock"] == "10.0.0.0/16"
    assert planned["tagsAll"] == {"Name": "n", "project": "berth", "stack": "local"}
    assert planned["region"] == "us-east-1"
    assert isinstance(planned["arn"], Unknown)
    cluster = aws.preview(
        "aws:eks/cluster:Cluster", "c", {"roleArn": "arn:r", "vpcConfig": {"subnetIds": ["a", "b"]}}
    )
    assert cluster["vpcConfig"]["subnetIds"] == ["a", "b"]
    assert isinstance(cluster["vpcConfig"]["clusterSecurityGroupId"], Unknown)
