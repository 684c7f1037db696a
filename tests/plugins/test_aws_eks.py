"""The EKS types against the sandbox's AWS, whose clusters are real."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.conftest import PROJECT, aws_configuration
from tests.plugins.driver import InitializationFailed, Plugin, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTER = "aws:eks/cluster:Cluster"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
POLICIES = "arn:aws:iam::aws:policy"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Plugin]:
    block = str(random.randrange(100, 240))
    command = [sys.executable, "-m", "sandbox.aws", "--port", "4566", "--block", block]
    with (tmp_path / "stderr").open("w") as log:
        process = subprocess.Popen(
            [*command, "--dir", str(tmp_path / "aws")],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (tmp_path / "stderr").read_text()[-2000:]
    ready = json.loads(line)
    plugin = Plugin(
        "aws", aws_configuration(ready["endpoint"], ready["access_key_id"], ready["secret_access_key"])
    )
    yield plugin
    plugin.close()
    process.terminate()
    process.wait(60)
    process.stdout.close()


def role(plugin: Plugin, name: str, service: str, *policies: str) -> Resource:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = plugin.create("aws:iam/role:Role", name, {"assumeRolePolicy": trust})
    for policy in policies:
        attachment = {"role": made.id, "policyArn": f"{POLICIES}/{policy}"}
        plugin.create("aws:iam/rolePolicyAttachment:RolePolicyAttachment", f"{name}-{policy}", attachment)
    return made


def steady(plugin: Plugin, resource: Resource) -> Resource:
    """Hold an object to it that a refresh sees no drift."""
    read = plugin.read(resource)
    assert read is not None
    assert plugin.diff_checked(resource, read.inputs).paths == {}
    return resource


def test_a_cluster_and_all_that_belongs_to_it(sandbox: Plugin) -> None:
    vpc = sandbox.create("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.0.0.0/16"})
    subnets = [
        sandbox.create(
            "aws:ec2/subnet:Subnet",
            zone,
            {"vpcId": vpc.id, "cidrBlock": f"10.0.{index}.0/24", "availabilityZone": f"us-east-1{zone}"},
        ).id
        for index, zone in enumerate("ab")
    ]
    control = role(sandbox, "control", "eks.amazonaws.com", "AmazonEKSClusterPolicy")
    settings = {
        "name": "berth",
        "roleArn": control.outputs["arn"],
        "vpcConfig": {"subnetIds": subnets, "endpointPublicAccess": True},
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        "bootstrapSelfManagedAddons": False,
    }
    cluster = steady(sandbox, sandbox.create(CLUSTER, "berth", settings, timeout=300))
    assert cluster.outputs["certificateAuthority"]["data"]
    assert cluster.outputs["vpcConfig"]["clusterSecurityGroupId"].startswith("sg-")
    assert "CREATING" in sandbox.statuses

    # The engine died while the cluster was being made: the same one is taken up again.
    sandbox.restart()
    again = sandbox.create(CLUSTER, "berth", settings, timeout=300)
    assert again.outputs["createdAt"] == cluster.outputs["createdAt"]

    useless = role(sandbox, "useless", "ec2.amazonaws.com")
    group: dict[str, Any] = {
        "clusterName": cluster.id,
        "nodeRoleArn": useless.outputs["arn"],
        "subnetIds": subnets[:1],
        "scalingConfig": {"desiredSize": 0, "minSize": 0, "maxSize": 1},
        "instanceTypes": ["g6.xlarge"],
        "labels": {"a": "b"},
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
    }
    with pytest.raises(InitializationFailed, match="CREATE_FAILED: NodeCreationFailure") as failed:
        sandbox.create(NODE_GROUP, "gpu", group, timeout=60)
    checked, _ = sandbox.check(NODE_GROUP, "gpu", group)
    broken = Resource(NODE_GROUP, "gpu", failed.value.id, checked, failed.value.outputs)
    assert sandbox.diff(broken, group).paths == {"status": "UPDATE_REPLACE"}
    sandbox.delete(broken, timeout=60)

    node = role(
        sandbox,
        "node",
        "ec2.amazonaws.com",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEC2ContainerRegistryPullOnly",
    )
    group["nodeRoleArn"] = node.outputs["arn"]
    nodes = steady(sandbox, sandbox.create(NODE_GROUP, "gpu", group, timeout=60))
    scaled = {**group, "scalingConfig": {"desiredSize": 0, "minSize": 0, "maxSize": 2}, "labels": {"c": "d"}}
    assert sandbox.diff(nodes, scaled).replaces == []
    nodes = steady(sandbox, sandbox.update(nodes, scaled))
    assert sandbox.diff(nodes, {**scaled, "instanceTypes": ["g5.xlarge"]}).replaces == ["instanceTypes[0]"]

    addon = {"clusterName": cluster.id, "addonName": "vpc-cni", "resolveConflictsOnCreate": "OVERWRITE"}
    made = [steady(sandbox, sandbox.create("aws:eks/addon:Addon", "cni", addon, timeout=60))]
    person = role(sandbox, "person", "ec2.amazonaws.com").outputs["arn"]
    entry = {"clusterName": cluster.id, "principalArn": person}
    made.append(steady(sandbox, sandbox.create("aws:eks/accessEntry:AccessEntry", "person", entry)))
    policy = {
        **entry,
        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        "accessScope": {"type": "cluster"},
    }
    association = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    made.append(steady(sandbox, sandbox.create(association, "person", policy)))
    targets = sandbox.create(
        "aws:lb/targetGroup:TargetGroup", "nodes", {"port": 30080, "protocol": "HTTP", "vpcId": vpc.id}
    )
    attachment = {
        "autoscalingGroupName": nodes.outputs["resources"][0]["autoscalingGroups"][0]["name"],
        "lbTargetGroupArn": targets.id,
    }
    made.append(steady(sandbox, sandbox.create("aws:autoscaling/attachment:Attachment", "nodes", attachment)))
    for resource in [*reversed(made), nodes, cluster]:
        sandbox.delete(resource, timeout=120)
        assert sandbox.read(resource) is None
