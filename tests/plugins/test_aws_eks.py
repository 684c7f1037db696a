"""Types and functions whose API is the sandbox's own: EKS, whose clusters are real, and budgets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.blocks import free_block
from tests.plugins.conftest import PROJECT, Account, aws_configuration
from tests.plugins.driver import InitializationFailed, Plugin, Refused, Resource
from tests.plugins.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = "aws:eks/cluster:Cluster"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
POLICIES = "arn:aws:iam::aws:policy"


@dataclass
class Sandbox:
    """The sandbox's AWS: through the plugin, and from the other side."""

    plugin: Plugin
    account: Account


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    tmp_path = tmp_path_factory.mktemp("sandbox-aws")
    block = free_block()
    command = [sys.executable, "-m", "sandbox.aws", "--port", "4566", "--block", str(block)]
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
    place = ready["endpoint"], ready["access_key_id"], ready["secret_access_key"]
    plugin = Plugin("aws", aws_configuration(*place))
    yield Sandbox(plugin, Account(*place))
    plugin.close()
    process.terminate()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
def sandbox(running: Sandbox) -> Plugin:
    return running.plugin


def role(
    plugin: Plugin, name: str, service: str, *policies: str, actions: list[str] | None = None
) -> Resource:
    action = actions or ["sts:AssumeRole"]
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": action}
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


def test_a_budget_and_its_notifications(running: Sandbox) -> None:
    stack, client = Stack(running.plugin), running.account.client("budgets")
    warning = {
        "comparisonOperator": "GREATER_THAN",
        "notificationType": "FORECASTED",
        "threshold": 80,
        "thresholdType": "PERCENTAGE",
        "subscriberEmailAddresses": ["team@example.com"],
    }
    inputs: dict[str, Any] = {
        "budgetType": "COST",
        "timeUnit": "MONTHLY",
        "limitAmount": "100",
        "limitUnit": "USD",
        "timePeriodStart": "2026-01-01_00:00",
        "costFilters": [{"name": "TagKeyValue", "values": ["user:project$berth"]}],
        "notifications": [warning],
        "tags": {"a": "b"},
    }
    made = stack.make("aws:budgets/budget:Budget", "monthly", inputs)
    place = {"AccountId": made.outputs["accountId"], "BudgetName": made.outputs["name"]}
    assert made.id == ":".join(place.values())
    found = client.describe_budget(**place)["Budget"]
    assert float(found["BudgetLimit"]["Amount"]) == 100
    assert found["CostFilters"] == {"TagKeyValue": ["user:project$berth"]}
    assert running.plugin.diff(made, {**inputs, "name": "another"}).replaces == ["name"]
    tags = [{"tags": {"key": key, "values": ["berth"], "matchOptions": ["EQUALS"]}} for key in ("a", "b")]
    changed = stack.change(
        made,
        limitAmount="250.5",
        costFilters=None,
        filterExpression={"ands": tags},
        metrics="UnblendedCost",
        notifications=[{**warning, "threshold": 100, "notificationType": "ACTUAL"}],
        tags={"c": "d"},
    )
    found = client.describe_budget(**place)["Budget"]
    assert float(found["BudgetLimit"]["Amount"]) == 250.5
    assert [item["Tags"]["Key"] for item in found["FilterExpression"]["And"]] == ["a", "b"]
    assert found["Metrics"] == ["UnblendedCost"]
    actual = client.describe_notifications_for_budget(**place)["Notifications"]
    assert [(item["NotificationType"], item["Threshold"]) for item in actual] == [("ACTUAL", 100.0)]
    actual_tags = client.list_tags_for_resource(ResourceARN=changed.outputs["arn"])["ResourceTags"]
    assert {tag["Key"]: tag["Value"] for tag in actual_tags if tag["Key"] in {"a", "c"}} == {"c": "d"}
    client.delete_notification(
        **place, Notification={k: v for k, v in actual[0].items() if k != "NotificationState"}
    )
    read = running.plugin.read(changed)
    assert read is not None
    assert read.inputs["notifications"] == []
    stack.delete_all()
    with pytest.raises(client.exceptions.NotFoundException):
        client.describe_budget(**place)
    wrong = {**warning, "subscriberEmailAddresses": ["nobody"]}
    with pytest.raises(Refused, match=r"^CreateBudget: InvalidParameterException: .*e-mail"):
        running.plugin.create("aws:budgets/budget:Budget", "wrong", {**inputs, "notifications": [wrong]})


def test_what_eks_offers(sandbox: Plugin) -> None:
    versions = "aws:eks/getClusterVersions:getClusterVersions"
    offered = sandbox.invoke(versions, {})["clusterVersions"]
    assert "1.35" in [item["clusterVersion"] for item in offered]
    [default] = sandbox.invoke(versions, {"defaultOnly": True})["clusterVersions"]
    assert default["defaultVersion"] is True
    [one] = sandbox.invoke(versions, {"clusterVersionsOnlies": ["1.35"]})["clusterVersions"]
    assert one["clusterVersion"] == "1.35"
    addon = "aws:eks/getAddonVersion:getAddonVersion"
    wanted = {"addonName": "vpc-cni", "kubernetesVersion": "1.35"}
    usual = sandbox.invoke(addon, wanted)["version"]
    newest = sandbox.invoke(addon, {**wanted, "mostRecent": True})["version"]
    assert usual.startswith("v1.")
    assert newest.startswith("v1.")
    assert _numbers(newest) >= _numbers(usual)
    with pytest.raises(Refused, match="nothing"):
        sandbox.invoke(addon, {**wanted, "addonName": "nothing"})


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_a_cluster_and_all_that_belongs_to_it(running: Sandbox) -> None:
    sandbox = running.plugin
    vpc = sandbox.create("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.0.0.0/16"})
    subnets = [
        sandbox.create(
            "aws:ec2/subnet:Subnet",
            zone,
            {"vpcId": vpc.id, "cidrBlock": f"10.0.{index}.0/24", "availabilityZone": f"us-east-1{zone}"},
        ).id
        for index, zone in enumerate("ab")
    ]
    cluster = _cluster(sandbox, subnets)
    nodes = _nodes(running, cluster, subnets)
    made = [*_addon(sandbox, cluster), *_pod_identity(running, cluster), *_access(sandbox, cluster)]
    targets = sandbox.create(
        "aws:lb/targetGroup:TargetGroup", "nodes", {"port": 30080, "protocol": "HTTP", "vpcId": vpc.id}
    )
    group = nodes.outputs["resources"][0]["autoscalingGroups"][0]["name"]
    attachment = {"autoscalingGroupName": group, "lbTargetGroupArn": targets.id}
    made.append(steady(sandbox, sandbox.create("aws:autoscaling/attachment:Attachment", "nodes", attachment)))
    for resource in [*reversed(made), nodes, cluster]:
        sandbox.delete(resource, timeout=120)
        assert sandbox.read(resource) is None


def _cluster(sandbox: Plugin, subnets: list[str]) -> Resource:
    control = role(sandbox, "control", "eks.amazonaws.com", "AmazonEKSClusterPolicy")
    settings: dict[str, Any] = {
        "name": "berth",
        "roleArn": control.outputs["arn"],
        "vpcConfig": {"subnetIds": subnets, "endpointPublicAccess": True},
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        "bootstrapSelfManagedAddons": False,
    }
    key = sandbox.create("aws:kms/key:Key", "secrets", {"deletionWindowInDays": 7})
    encryption = {"resources": ["secrets"], "provider": {"keyArn": key.outputs["arn"]}}
    settings["encryptionConfig"] = encryption
    cluster = steady(sandbox, sandbox.create(CLUSTER, "berth", settings, timeout=300))
    assert cluster.outputs["certificateAuthority"]["data"]
    assert cluster.outputs["vpcConfig"]["clusterSecurityGroupId"].startswith("sg-")
    assert "CREATING" in sandbox.statuses

    # The engine died while the cluster was being made: the same one is taken up again.
    sandbox.restart()
    again = sandbox.create(CLUSTER, "berth", settings, timeout=300)
    assert again.outputs["createdAt"] == cluster.outputs["createdAt"]

    changes = {"enabledClusterLogTypes": ["api", "audit"], "upgradePolicy": {"supportType": "STANDARD"}}
    changed = {**settings, **changes}
    assert sandbox.diff(cluster, changed).replaces == []
    updated = steady(sandbox, sandbox.update(cluster, changed, timeout=60))
    plain = {key: value for key, value in changed.items() if key != "encryptionConfig"}
    assert sandbox.diff(updated, plain).replaces == ["encryptionConfig"]
    bare = Resource(CLUSTER, "berth", updated.id, {**updated.inputs}, updated.outputs)
    del bare.inputs["encryptionConfig"]
    assert sandbox.diff(bare, changed).paths == {"encryptionConfig": "ADD"}
    assert sandbox.diff(updated, {**changed, "version": "1.99"}).replaces == []
    return updated


def _nodes(running: Sandbox, cluster: Resource, subnets: list[str]) -> Resource:
    sandbox, eks = running.plugin, running.account.client("eks")
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

    policies = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")
    node = role(sandbox, "node", "ec2.amazonaws.com", *policies)
    group["nodeRoleArn"] = node.outputs["arn"]
    nodes = steady(sandbox, sandbox.create(NODE_GROUP, "gpu", group, timeout=60))
    scaled = {**group, "scalingConfig": {"desiredSize": 0, "minSize": 0, "maxSize": 2}, "labels": {"c": "d"}}
    assert sandbox.diff(nodes, scaled).replaces == []
    nodes = steady(sandbox, sandbox.update(nodes, scaled))
    assert sandbox.diff(nodes, {**scaled, "instanceTypes": ["g5.xlarge"]}).replaces == ["instanceTypes[0]"]

    # What others have changed since is not set back when something else is changed.
    names = {"clusterName": cluster.id, "nodegroupName": nodes.outputs["nodeGroupName"]}
    eks.update_nodegroup_config(**names, scalingConfig={"minSize": 0, "maxSize": 3, "desiredSize": 0})
    repaired = {**scaled, "nodeRepairConfig": {"enabled": True}, "updateConfig": {"maxUnavailable": 2}}
    nodes = sandbox.update(nodes, repaired)
    described = eks.describe_nodegroup(**names)["nodegroup"]
    assert described["nodeRepairConfig"]["enabled"] is True
    assert described["updateConfig"]["maxUnavailable"] == 2
    assert described["scalingConfig"]["maxSize"] == 3
    read = sandbox.read(nodes)
    assert read is not None
    assert sandbox.diff(read, repaired).paths == {"scalingConfig.maxSize": "UPDATE"}
    nodes = steady(sandbox, sandbox.update(read, scaled))
    described = eks.describe_nodegroup(**names)["nodegroup"]
    assert described["nodeRepairConfig"]["enabled"] is False
    assert described["scalingConfig"]["maxSize"] == 2
    return nodes


def _pods(sandbox: Plugin, name: str) -> str:
    made = role(sandbox, name, "pods.eks.amazonaws.com", actions=["sts:AssumeRole", "sts:TagSession"])
    return str(made.outputs["arn"])


def _addon(sandbox: Plugin, cluster: Resource) -> list[Resource]:
    addon = {"clusterName": cluster.id, "addonName": "vpc-cni", "resolveConflictsOnCreate": "OVERWRITE"}
    identity = {"roleArn": _pods(sandbox, "cni"), "serviceAccount": "aws-node"}
    given = {**addon, "podIdentityAssociations": [identity]}
    made = steady(sandbox, sandbox.create("aws:eks/addon:Addon", "cni", given, timeout=60))
    read = sandbox.read(made)
    assert read is not None
    assert read.outputs["podIdentityAssociations"] == [identity]
    tuned = {**addon, "configurationValues": json.dumps({"enableNetworkPolicy": "true"})}
    assert sandbox.diff(made, tuned).replaces == []
    made = steady(sandbox, sandbox.update(made, tuned, timeout=60))
    assert made.outputs["podIdentityAssociations"] == []
    return [made]


def _pod_identity(running: Sandbox, cluster: Resource) -> list[Resource]:
    sandbox, eks = running.plugin, running.account.client("eks")
    type_ = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    account = {"clusterName": cluster.id, "namespace": "kube-system", "serviceAccount": "scaler"}
    association = {**account, "roleArn": _pods(sandbox, "scaler")}
    made = steady(sandbox, sandbox.create(type_, "scaler", association))
    sandbox.restart()
    assert sandbox.create(type_, "scaler", association).id == made.id
    moved = {**association, "roleArn": _pods(sandbox, "other")}
    assert sandbox.diff(made, moved).replaces == []
    assert sandbox.diff(made, {**association, "serviceAccount": "another"}).replaces == ["serviceAccount"]
    made = steady(sandbox, sandbox.update(made, moved))
    described = eks.describe_pod_identity_association(clusterName=cluster.id, associationId=made.id)
    assert described["association"]["roleArn"] == moved["roleArn"]
    return [made]


def _access(sandbox: Plugin, cluster: Resource) -> list[Resource]:
    person = role(sandbox, "person", "ec2.amazonaws.com").outputs["arn"]
    entry = {"clusterName": cluster.id, "principalArn": person}
    policy = {
        **entry,
        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        "accessScope": {"type": "cluster"},
    }
    association = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    return [
        steady(sandbox, sandbox.create("aws:eks/accessEntry:AccessEntry", "person", entry)),
        steady(sandbox, sandbox.create(association, "person", policy)),
    ]
