from __future__ import annotations

import json
import re
import subprocess
import uuid
from typing import Any

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from tests.sandbox_aws.support import Sandbox, make_network, make_role, wait_for


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox) -> dict[str, Any]:
    role = make_role(sandbox, "cluster", "eks.amazonaws.com", "AmazonEKSClusterPolicy")
    vpc, subnets = make_network(sandbox)
    eks = sandbox.client("eks")
    created = eks.create_cluster(
        name="berth",
        roleArn=role,
        version="1.35",
        resourcesVpcConfig={"subnetIds": subnets},
        accessConfig={"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        upgradePolicy={"supportType": "STANDARD"},
        bootstrapSelfManagedAddons=False,
        logging={"clusterLogging": [{"types": ["api"], "enabled": True}]},
        tags={"project": "berth"},
    )["cluster"]
    assert created["status"] == "CREATING"
    eks.get_waiter("cluster_active").wait(name="berth", WaiterConfig={"Delay": 1})
    return {"vpc": vpc, "subnets": subnets, "role": role}


@pytest.fixture(scope="module")
def node_role(sandbox: Sandbox) -> str:
    return make_role(sandbox, "node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")


def refused(call: Any, code: str, words: str, **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert (error["Code"], bool(re.search(words, error["Message"]))) == (code, True), error


def test_cluster_is_described_as_it_was_made(sandbox: Sandbox, cluster: dict[str, Any]) -> None:
    seen = sandbox.client("eks").describe_cluster(name="berth")["cluster"]
    assert seen["status"] == "ACTIVE"
    assert seen["endpoint"] == f"http://127.{sandbox.block}.0.3:6443"
    assert seen["certificateAuthority"]["data"] == "YXV0aG9yaXR5"
    assert seen["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    assert seen["upgradePolicy"] == {"supportType": "STANDARD"}
    assert seen["logging"]["clusterLogging"][0] == {"types": ["api"], "enabled": True}
    assert seen["resourcesVpcConfig"]["subnetIds"] == cluster["subnets"]
    assert seen["tags"] == {"project": "berth"}
    assert seen["createdAt"].year >= 2026


def test_cluster_holds_its_subnets(sandbox: Sandbox, cluster: dict[str, Any]) -> None:
    delete = sandbox.client("ec2").delete_subnet
    refused(delete, "DependencyViolation", "has dependencies", SubnetId=cluster["subnets"][0])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"name": "berth"}, "ResourceInUseException", "already exists with name: berth"),
        ({"version": "1.12"}, "InvalidParameterException", "unsupported Kubernetes version"),
        ({"roleArn": "arn:aws:iam::123456789012:role/none"}, "InvalidParameterException", "does not exist"),
        ({"resourcesVpcConfig": {"subnetIds": ["subnet-0"]}}, "InvalidParameterException", "does not exist"),
        ({"accessConfig": {"authenticationMode": "NONE"}}, "InvalidParameterException", "enum value set"),
        ({"name": "not a name"}, "InvalidParameterException", "alphanumeric"),
    ],
)
def test_bad_cluster_is_refused(
    sandbox: Sandbox, cluster: dict[str, Any], changes: dict[str, Any], code: str, words: str
) -> None:
    good = {
        "name": "other",
        "roleArn": cluster["role"],
        "resourcesVpcConfig": {"subnetIds": cluster["subnets"]},
    }
    refused(sandbox.client("eks").create_cluster, code, words, **{**good, **changes})


def test_node_group_lives(sandbox: Sandbox, cluster: dict[str, Any], node_role: str) -> None:
    eks, ec2, autoscaling = (sandbox.client(name) for name in ("eks", "ec2", "autoscaling"))
    template = ec2.create_launch_template(
        LaunchTemplateName="gpu",
        LaunchTemplateData={
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}
            ],
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "owner", "Value": "me"}]},
            ],
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    eks.create_nodegroup(
        clusterName="berth",
        nodegroupName="gpu",
        subnets=cluster["subnets"],
        nodeRole=node_role,
        scalingConfig={"minSize": 0, "maxSize": 4, "desiredSize": 2},
        instanceTypes=["g6.12xlarge"],
        amiType="AL2023_x86_64_NVIDIA",
        labels={"nvidia.com/gpu.present": "true"},
        taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        launchTemplate={"id": template, "version": "1"},
        updateConfig={"maxUnavailable": 1},
    )
    refused(eks.delete_cluster, "ResourceInUseException", "nodegroups attached", name="berth")
    waiter = eks.get_waiter("nodegroup_active")
    waiter.wait(clusterName="berth", nodegroupName="gpu", WaiterConfig={"Delay": 1})
    seen = eks.describe_nodegroup(clusterName="berth", nodegroupName="gpu")["nodegroup"]
    assert seen["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert seen["launchTemplate"] == {"id": template, "name": "gpu", "version": "1"}
    assert seen["health"] == {"issues": []}
    group_name = seen["resources"]["autoScalingGroups"][0]["name"]
    assert group_name.startswith("eks-gpu-")

    def members() -> list[dict[str, Any]]:
        group = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group_name])
        ids = [each["InstanceId"] for each in group["AutoScalingGroups"][0]["Instances"]]
        found = ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance for each in found for instance in each["Instances"]]

    launched = members()
    assert {each["SubnetId"] for each in launched} == set(cluster["subnets"])
    tags = {tag["Key"]: tag["Value"] for tag in launched[0]["Tags"]}
    assert (tags["eks:cluster-name"], tags["eks:nodegroup-name"], tags["owner"]) == ("berth", "gpu", "me")
    nodes = sorted((sandbox.directory / "eks" / "berth" / "nodes").glob("*/arguments"))
    assert {node.parent.name for node in nodes} == {each["InstanceId"] for each in launched}
    arguments = json.loads(nodes[0].read_text())
    assert arguments[arguments.index("--gpus") + 1] == "4"
    assert arguments[arguments.index("--taints") + 1] == "nvidia.com/gpu=present:NoSchedule"
    assert "nvidia.com/gpu.present=true" in arguments[arguments.index("--labels") + 1]
    labels = arguments[arguments.index("--labels") + 1].split(",")
    zone = next(label for label in labels if label.startswith("topology.kubernetes.io/zone=")).partition("=")[
        2
    ]
    assert zone in {"us-east-1a", "us-east-1b"}
    assert arguments[arguments.index("--provider-id") + 1] == f"aws:///{zone}/{nodes[0].parent.name}"
    assert arguments[arguments.index("--address") + 1].startswith(f"127.{sandbox.block}.1.")
    assert not any("not-a-real-secret" in argument for argument in arguments)

    update = eks.update_nodegroup_config(
        clusterName="berth", nodegroupName="gpu", scalingConfig={"desiredSize": 1, "minSize": 0, "maxSize": 4}
    )["update"]
    assert update["status"] == "InProgress"
    update_of = {"name": "berth", "updateId": update["id"], "nodegroupName": "gpu"}
    wait_for(lambda: eks.describe_update(**update_of)["update"]["status"] == "Successful")
    assert len(list((sandbox.directory / "eks" / "berth" / "nodes").iterdir())) == 1
    states = ec2.describe_instances(InstanceIds=[each["InstanceId"] for each in launched])["Reservations"]
    assert sorted(i["State"]["Name"] for each in states for i in each["Instances"]) == [
        "running",
        "terminated",
    ]
    changes = (sandbox.directory / "eks" / "berth" / "control-plane" / "changes").read_text()
    assert json.loads(json.loads(changes.splitlines()[0])[2]) == {"spec": {"unschedulable": True}}

    eks.delete_nodegroup(clusterName="berth", nodegroupName="gpu")
    eks.get_waiter("nodegroup_deleted").wait(
        clusterName="berth", nodegroupName="gpu", WaiterConfig={"Delay": 1}
    )
    assert not autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group_name])[
        "AutoScalingGroups"
    ]
    assert not list((sandbox.directory / "eks" / "berth" / "nodes").iterdir())


def test_node_without_its_policy_cannot_join(sandbox: Sandbox, cluster: dict[str, Any]) -> None:
    eks = sandbox.client("eks")
    bare = make_role(sandbox, "bare", "ec2.amazonaws.com")
    group = {"clusterName": "berth", "nodegroupName": "bare"}
    eks.create_nodegroup(**group, subnets=cluster["subnets"], nodeRole=bare)
    seen = wait_for(
        lambda: next(
            iter(
                [g for g in [eks.describe_nodegroup(**group)["nodegroup"]] if g["status"] == "CREATE_FAILED"]
            ),
            None,
        )
    )
    assert seen["health"]["issues"][0]["code"] == "NodeCreationFailure"
    assert seen["health"]["issues"][0]["resourceIds"]
    eks.delete_nodegroup(**group)
    eks.get_waiter("nodegroup_deleted").wait(**group, WaiterConfig={"Delay": 1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amiType": "AL2023"}, "Member must satisfy enum value set"),
        ({"capacityType": "CHEAP"}, "Member must satisfy enum value set"),
        ({"instanceTypes": ["g99.huge"]}, r"do not exist: \[g99.huge\]"),
        ({"instanceTypes": ["m8i.large"], "amiType": "AL2023_x86_64_NVIDIA"}, "not a valid instance type"),
        (
            {"scalingConfig": {"minSize": 3, "desiredSize": 1, "maxSize": 3}},
            "Minimum capacity 3 can't be greater",
        ),
        (
            {"scalingConfig": {"minSize": 0, "desiredSize": 5, "maxSize": 3}},
            "desired capacity 5 can't be greater",
        ),
        ({"nodeRole": "arn:aws:iam::123456789012:role/none"}, "does not exist or the trusted entity"),
        ({"launchTemplate": {"id": "lt-0"}}, "can't be found"),
        ({"taints": [{"key": "a", "effect": "NEVER"}]}, "Member must satisfy enum value set"),
    ],
)
def test_bad_node_group_is_refused(
    sandbox: Sandbox, cluster: dict[str, Any], node_role: str, changes: dict[str, Any], words: str
) -> None:
    good = {
        "clusterName": "berth",
        "nodegroupName": "bad",
        "subnets": cluster["subnets"],
        "nodeRole": node_role,
    }
    create = sandbox.client("eks").create_nodegroup
    refused(create, "InvalidParameterException", words, **{**good, **changes})


@pytest.mark.usefixtures("cluster")
def test_addons(sandbox: Sandbox) -> None:
    eks = sandbox.client("eks")
    addon = {"clusterName": "berth", "addonName": "vpc-cni"}
    made = eks.create_addon(**addon, configurationValues='{"enableNetworkPolicy": "true"}')["addon"]
    assert made["status"] == "CREATING"
    eks.get_waiter("addon_active").wait(**addon, WaiterConfig={"Delay": 1})
    seen = eks.describe_addon(**addon)["addon"]
    assert seen["configurationValues"] == '{"enableNetworkPolicy": "true"}'
    versions = eks.describe_addon_versions(addonName="vpc-cni", kubernetesVersion="1.35")["addons"][0]
    [default] = [v for v in versions["addonVersions"] if v["compatibilities"][0]["defaultVersion"]]
    assert seen["addonVersion"] == default["addonVersion"]
    refused(eks.create_addon, "ResourceInUseException", "already exists", **addon)
    refused(eks.create_addon, "InvalidParameterException", "not supported", **{**addon, "addonName": "nope"})
    refused(eks.update_addon, "InvalidParameterException", "version", **addon, addonVersion="v0")
    older = versions["addonVersions"][-1]["addonVersion"]
    update = eks.update_addon(**addon, addonVersion=older)["update"]
    assert (update["status"], update["type"]) == ("Successful", "AddonUpdate")
    # DNS needs a node, and there is none.
    eks.create_addon(clusterName="berth", addonName="coredns")
    assert eks.describe_addon(clusterName="berth", addonName="coredns")["addon"]["status"] == "CREATING"
    for name in ("vpc-cni", "coredns"):
        eks.delete_addon(clusterName="berth", addonName=name)
        eks.get_waiter("addon_deleted").wait(clusterName="berth", addonName=name, WaiterConfig={"Delay": 1})


def review(sandbox: Sandbox, token: str, cluster: str = "berth") -> dict[str, Any]:
    url = f"{sandbox.endpoint}/_sandbox/eks/{cluster}/token-review"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status: dict[str, Any] = httpx.post(url, json=body).json()["status"]
    return status


def get_token(sandbox: Sandbox, cluster: str = "berth") -> str:
    done = sandbox.aws("eks", "get-token", "--cluster-name", cluster)
    assert done.returncode == 0, done.stderr
    token: str = json.loads(done.stdout)["status"]["token"]
    return token


@pytest.mark.usefixtures("cluster")
def test_access_is_by_entry_and_policy(sandbox: Sandbox) -> None:
    eks = sandbox.client("eks")
    user = sandbox.client("sts").get_caller_identity()["Arn"]
    token = get_token(sandbox)
    denied = review(sandbox, token)
    assert not denied["authenticated"]
    assert "has no access entry" in denied["error"]
    eks.create_access_entry(clusterName="berth", principalArn=user, kubernetesGroups=["readers"])
    assert review(sandbox, token)["user"]["groups"] == ["readers"]
    policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
    who = {"clusterName": "berth", "principalArn": user}
    eks.associate_access_policy(**who, policyArn=policy, accessScope={"type": "cluster"})
    reviewed = review(sandbox, token)
    assert reviewed["user"]["username"] == user
    assert reviewed["user"]["groups"] == ["readers", "eks:AmazonEKSClusterAdminPolicy"]
    associated = eks.list_associated_access_policies(**who)["associatedAccessPolicies"]
    assert associated[0]["accessScope"] == {"type": "cluster", "namespaces": []}
    refused(eks.create_access_entry, "ResourceInUseException", "already in use", **who)
    eks.disassociate_access_policy(**who, policyArn=policy)
    eks.delete_access_entry(**who)
    refused(eks.describe_access_entry, "ResourceNotFoundException", "could not be found", **who)
    assert not review(sandbox, token)["authenticated"]


@pytest.mark.usefixtures("cluster")
def test_bad_tokens_are_refused(sandbox: Sandbox) -> None:
    token = get_token(sandbox)
    assert "does not match" in review(sandbox, token[:-4] + "AAAA")["error"]
    assert "does not match" in review(sandbox, get_token(sandbox, "another"))["error"]
    assert "k8s-aws-v1." in review(sandbox, "nonsense")["error"]
    assert "no cluster" in review(sandbox, token, "none")["error"]


@pytest.mark.usefixtures("cluster")
def test_config_updates_and_tags(sandbox: Sandbox) -> None:
    eks = sandbox.client("eks")
    arn = eks.describe_cluster(name="berth")["cluster"]["arn"]
    update = eks.update_cluster_config(name="berth", deletionProtection=True)["update"]
    seen = eks.describe_update(name="berth", updateId=update["id"])["update"]
    assert (seen["status"], seen["type"]) == ("Successful", "DeletionProtectionUpdate")
    refused(eks.delete_cluster, "InvalidRequestException", "deletion protection", name="berth")
    eks.update_cluster_config(name="berth", deletionProtection=False)
    eks.tag_resource(resourceArn=arn, tags={"stack": "local"})
    eks.untag_resource(resourceArn=arn, tagKeys=["project"])
    assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"stack": "local"}
    refused(
        eks.update_cluster_version, "InvalidParameterException", "minor version", name="berth", version="1.34"
    )
    assert eks.describe_cluster_versions(defaultOnly=True)["clusterVersions"][0]["clusterVersion"] == "1.35"


def test_deleting_a_cluster_stops_it_and_frees_the_network(own_sandbox: Sandbox) -> None:
    role = make_role(own_sandbox, "cluster", "eks.amazonaws.com")
    vpc, subnets = make_network(own_sandbox, gateway=False)
    eks, ec2 = own_sandbox.client("eks"), own_sandbox.client("ec2")
    eks.create_cluster(name="short", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    eks.get_waiter("cluster_active").wait(name="short", WaiterConfig={"Delay": 1})
    assert own_sandbox.process is not None
    children = psutil.Process(own_sandbox.process.pid).children(recursive=True)
    assert any("kubernetes" in child.cmdline() for child in children)
    eks.delete_cluster(name="short")
    eks.get_waiter("cluster_deleted").wait(name="short", WaiterConfig={"Delay": 1})
    assert not psutil.Process(own_sandbox.process.pid).children(recursive=True)
    assert not (own_sandbox.directory / "eks" / "short").exists()
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_nothing_outlives_a_killed_sandbox_and_a_restart_brings_it_back(own_sandbox: Sandbox) -> None:
    role = make_role(own_sandbox, "cluster", "eks.amazonaws.com")
    node = make_role(own_sandbox, "node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
    _, subnets = make_network(own_sandbox)
    eks = own_sandbox.client("eks")
    eks.create_cluster(name="c", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    eks.get_waiter("cluster_active").wait(name="c", WaiterConfig={"Delay": 1})
    eks.create_nodegroup(clusterName="c", nodegroupName="n", subnets=subnets, nodeRole=node)
    eks.get_waiter("nodegroup_active").wait(clusterName="c", nodegroupName="n", WaiterConfig={"Delay": 1})
    before = (
        eks.describe_cluster(name="c")["cluster"],
        eks.describe_nodegroup(clusterName="c", nodegroupName="n")["nodegroup"],
    )
    instances = own_sandbox.client("ec2").describe_instances()["Reservations"]
    assert own_sandbox.process is not None
    children = psutil.Process(own_sandbox.process.pid).children(recursive=True)
    assert len(children) == 3
    own_sandbox.kill()
    assert psutil.wait_procs(children, timeout=10)[1] == []
    own_sandbox.start()
    after = (
        eks.describe_cluster(name="c")["cluster"],
        eks.describe_nodegroup(clusterName="c", nodegroupName="n")["nodegroup"],
    )
    assert after == before
    again = own_sandbox.client("ec2").describe_instances()["Reservations"]
    assert [r["Instances"][0]["InstanceId"] for r in again] == [
        r["Instances"][0]["InstanceId"] for r in instances
    ]
    assert own_sandbox.process is not None
    pid = own_sandbox.process.pid
    wait_for(lambda: len(psutil.Process(pid).children(recursive=True)) == 3)
    assert own_sandbox.stop() == 0
    assert not subprocess.run(
        ["pgrep", "-f", str(own_sandbox.directory)], capture_output=True, check=False
    ).stdout
    assert uuid.UUID(before[1]["nodegroupArn"].rpartition("/")[2])
