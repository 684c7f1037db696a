"""Node groups: what EKS refuses, what fails, what scales, what is interrupted, what stays behind."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.sandbox_aws.support import Sandbox, admin, make_network, make_role, wait_for
from tests.sandbox_aws.test_strict import refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Cluster:
    """A cluster of the sandbox, with what its node groups need."""

    name = "deep"

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.eks, self.ec2 = sandbox.client("eks"), sandbox.client("ec2")
        self.autoscaling = sandbox.client("autoscaling")
        self.role = make_role(sandbox, "deep-cluster", "eks.amazonaws.com")
        self.node_role = make_role(sandbox, "deep-node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
        self.vpc, self.subnets = make_network(sandbox)
        self.eks.create_cluster(
            name=self.name,
            roleArn=self.role,
            version="1.35",
            resourcesVpcConfig={"subnetIds": self.subnets},
            accessConfig={"authenticationMode": "API"},
        )
        wait_for(lambda: self.eks.describe_cluster(name=self.name)["cluster"]["status"] == "ACTIVE")

    def make(self, name: str, **options: Any) -> dict[str, Any]:
        wanted = {
            "clusterName": self.name,
            "nodegroupName": name,
            "subnets": self.subnets,
            "nodeRole": self.node_role,
            "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 1},
            **options,
        }
        made: dict[str, Any] = self.eks.create_nodegroup(**wanted)["nodegroup"]
        return made

    def group(self, name: str) -> dict[str, Any]:
        seen: dict[str, Any] = self.eks.describe_nodegroup(clusterName=self.name, nodegroupName=name)[
            "nodegroup"
        ]
        return seen

    def wait(self, name: str, status: str) -> dict[str, Any]:
        wait_for(lambda: self.group(name)["status"] == status)
        return self.group(name)

    def instances(self, name: str) -> list[dict[str, Any]]:
        group = self.scaling_group(name)
        return [each for each in group["Instances"] if each["LifecycleState"] == "InService"]

    def scaling_group(self, name: str) -> dict[str, Any]:
        names = [self.group(name)["resources"]["autoScalingGroups"][0]["name"]]
        found: dict[str, Any] = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=names)[
            "AutoScalingGroups"
        ][0]
        return found

    def delete(self, name: str) -> None:
        self.eks.delete_nodegroup(clusterName=self.name, nodegroupName=name)
        wait_for(lambda: name not in self.eks.list_nodegroups(clusterName=self.name)["nodegroups"])

    @property
    def directory(self) -> Path:
        return self.sandbox.directory / "eks" / self.name

    def nodes(self) -> set[str]:
        return {each.parent.name for each in self.directory.glob("nodes/*/arguments")}

    def template(self, **data: Any) -> dict[str, str]:
        made = self.ec2.create_launch_template(
            LaunchTemplateName=f"t{time.monotonic_ns()}", LaunchTemplateData=data
        )["LaunchTemplate"]
        return {"id": made["LaunchTemplateId"], "version": "1"}


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox) -> Iterator[Cluster]:
    yield Cluster(sandbox)
    admin(sandbox, "DELETE", "faults")


def test_clusters_ask_for_a_good_key_and_good_zones(sandbox: Sandbox, cluster: Cluster) -> None:
    kms = sandbox.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    config = {"resources": ["secrets"], "provider": {"keyArn": key}}
    wanted = {
        "name": "encrypted",
        "roleArn": cluster.role,
        "resourcesVpcConfig": {"subnetIds": cluster.subnets},
    }
    create = cluster.eks.create_cluster
    none = {**config, "provider": {"keyArn": key[:-4] + "0000"}}
    refused(create, "InvalidParameterException", "exists and is enabled", **wanted, encryptionConfig=[none])
    create(**wanted, encryptionConfig=[config])
    describe = cluster.eks.describe_cluster
    wait_for(lambda: describe(name="encrypted")["cluster"]["status"] == "ACTIVE")
    assert describe(name="encrypted")["cluster"]["encryptionConfig"] == [config]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    issues = describe(name="encrypted")["cluster"]["health"]["issues"]
    assert [each["code"] for each in issues] == ["KmsKeyMarkedForDeletion"]
    cluster.eks.delete_cluster(name="encrypted")
    remote = cluster.ec2.create_subnet(
        VpcId=cluster.vpc, CidrBlock="10.0.9.0/24", AvailabilityZone="us-east-1e"
    )["Subnet"]["SubnetId"]
    wanted["resourcesVpcConfig"] = {"subnetIds": [cluster.subnets[0], remote]}
    refused(create, "UnsupportedAvailabilityZoneException", "us-east-1e", **{**wanted, "name": "far"})


def test_addons_are_versioned_and_checked(cluster: Cluster, sandbox: Sandbox) -> None:
    eks = cluster.eks

    def offered(version: str, addon: str = "kube-proxy") -> list[str]:
        found = eks.describe_addon_versions(addonName=addon, kubernetesVersion=version)["addons"][0]
        return [each["addonVersion"] for each in found["addonVersions"]]

    assert set(offered("1.36")) - set(offered("1.35"))
    wanted = {"clusterName": cluster.name, "addonName": "vpc-cni"}
    refused(
        eks.create_addon,
        "InvalidParameterException",
        "Addon version specified is not supported",
        clusterName=cluster.name,
        addonName="kube-proxy",
        addonVersion=next(iter(set(offered("1.36")) - set(offered("1.35")))),
    )
    for values, words in [
        ('{"enableNetworkPolicy": true}', r"\[\$.enableNetworkPolicy: boolean found, string expected\]"),
        ('{"env": {"ENABLE_PREFIX": "true"}}', r"\$.env.ENABLE_PREFIX: is not defined in the schema"),
        ("{", "not a valid JSON or YAML"),
    ]:
        refused(eks.create_addon, "InvalidParameterException", words, **wanted, configurationValues=values)
    untrusted = make_role(sandbox, "not-for-pods", "ec2.amazonaws.com")
    cni = [{"serviceAccount": "aws-node", "roleArn": untrusted}]
    refused(
        eks.create_addon,
        "InvalidParameterException",
        "Trust policy of the role provided is invalid",
        **wanted,
        podIdentityAssociations=cni,
    )
    cni[0]["roleArn"] = role = make_role(sandbox, "for-cni", "pods.eks.amazonaws.com")
    values = '{"enableNetworkPolicy": "true", "env": {"ENABLE_PREFIX_DELEGATION": "true"}}'
    addon = eks.create_addon(**wanted, configurationValues=values, podIdentityAssociations=cni)["addon"]
    listed = eks.list_pod_identity_associations(clusterName=cluster.name, namespace="kube-system")
    [association] = listed["associations"]
    assert addon["podIdentityAssociations"] == [association["associationArn"]]
    assert association["ownerArn"] == addon["addonArn"]
    which = {"clusterName": cluster.name, "associationId": association["associationId"]}
    refused(eks.delete_pod_identity_association, "InvalidRequestException", "owned by", **which)
    refused(
        eks.create_pod_identity_association,
        "ResourceInUseException",
        f"Association already exists: {association['associationId']}",
        clusterName=cluster.name,
        namespace="kube-system",
        serviceAccount="aws-node",
        roleArn=role,
    )
    [default] = [
        version["addonVersion"]
        for version in eks.describe_addon_versions(addonName="vpc-cni", kubernetesVersion="1.35")["addons"][
            0
        ]["addonVersions"]
        if version["compatibilities"][0]["defaultVersion"]
    ]
    assert (addon["addonVersion"], default != offered("1.35", "vpc-cni")[0]) == (default, True)


def test_versions_have_ends(cluster: Cluster) -> None:
    versions = {
        each["clusterVersion"]: each for each in cluster.eks.describe_cluster_versions()["clusterVersions"]
    }
    assert set(versions) == {"1.33", "1.34", "1.35", "1.36"}
    assert versions["1.33"]["versionStatus"] == "EXTENDED_SUPPORT"
    assert versions["1.35"]["endOfStandardSupportDate"].strftime("%F") == "2027-03-27"


def mime(node_config: str) -> str:
    text = (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n--B\n'
        f"Content-Type: application/node.eks.aws\n\n{node_config}\n--B--\n"
    )
    return base64.b64encode(text.encode()).decode()


NODE_CONFIG = """apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  featureGates: {FastImagePull: true}
  instance: {localStorage: {strategy: RAID0}}
"""


@pytest.mark.parametrize(
    ("user_data", "code", "words"),
    [
        (
            base64.b64encode(b"#!/bin/sh\n").decode(),
            "Ec2LaunchTemplateInvalidConfiguration",
            "MIME multipart",
        ),
        (mime("kind: NodeConfig"), "NodeCreationFailure", "apiVersion node.eks.aws/v1alpha1"),
        (mime(NODE_CONFIG.replace("RAID0", "RAID7")), "NodeCreationFailure", "storage strategy: RAID7"),
    ],
)
def test_bad_user_data_fails_the_group(cluster: Cluster, user_data: str, code: str, words: str) -> None:
    cluster.make("bad", launchTemplate=cluster.template(UserData=user_data))
    [issue] = cluster.wait("bad", "CREATE_FAILED")["health"]["issues"]
    assert (issue["code"], words in issue["message"]) == (code, True), issue
    cluster.delete("bad")


def test_what_does_not_go_together_is_refused(cluster: Cluster) -> None:
    code = "InvalidParameterException"
    refused(
        cluster.make,
        code,
        "release version 1.35.0-20200101 is not valid for kubernetes version 1.35",
        name="x",
        releaseVersion="1.35.0-20200101",
    )
    both = {"maxUnavailable": 1, "maxUnavailablePercentage": 10}
    refused(cluster.make, code, "only one of", name="x", updateConfig=both)
    warm = {"minSize": 0, "maxGroupPreparedCapacity": 1, "poolState": "STOPPED"}
    refused(cluster.make, code, "Warm pools", name="x", capacityType="SPOT", warmPoolConfig=warm)
    market = {"MarketType": "capacity-block"}
    plain = cluster.template(InstanceMarketOptions=market)
    refused(cluster.make, code, "Instance market options are not supported", name="x", launchTemplate=plain)
    block = {"capacityType": "CAPACITY_BLOCK", "amiType": "AL2023_x86_64_NVIDIA"}
    refused(
        cluster.make,
        code,
        "instance type",
        name="x",
        launchTemplate=plain,
        **block,
        instanceTypes=["p5.48xlarge"],
    )
    reserved = {"CapacityReservationTarget": {"CapacityReservationId": "cr-0123456789abcdef0"}}
    good = cluster.template(
        InstanceMarketOptions=market, InstanceType="p5.48xlarge", CapacityReservationSpecification=reserved
    )
    made = cluster.make(
        "block", launchTemplate=good, **block, scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0}
    )
    assert made["capacityType"] == "CAPACITY_BLOCK"
    cluster.wait("block", "ACTIVE")
    cluster.delete("block")


def test_quota_and_capacity_fail_a_group_as_on_aws(cluster: Cluster, sandbox: Sandbox) -> None:
    gpu = {"instanceTypes": ["g6.xlarge"], "amiType": "AL2023_x86_64_NVIDIA"}
    admin(sandbox, "PUT", "faults", {"quotas": {"L-DB2E81BA": 7}})
    cluster.make("short", **gpu, scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 2})
    [issue] = cluster.wait("short", "CREATE_FAILED")["health"]["issues"]
    assert issue["code"] == "AsgInstanceLaunchFailures"
    assert "Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested" in issue["message"]
    assert "vCPU limit of 7 allows" in issue["message"]
    assert issue["resourceIds"] == [cluster.scaling_group("short")["AutoScalingGroupName"]]
    cluster.delete("short")
    admin(sandbox, "DELETE", "faults")

    none = [{"instance_type": "g6.xlarge"}]
    admin(sandbox, "PUT", "faults", {"no_capacity": none})
    cluster.make("none", **gpu)
    [issue] = cluster.wait("none", "CREATE_FAILED")["health"]["issues"]
    assert "InsufficientInstanceCapacity - We currently do not have sufficient g6.xlarge" in issue["message"]
    cluster.delete("none")
    # The next type of the list is there.
    cluster.make("second", **{**gpu, "instanceTypes": ["g6.xlarge", "g6e.xlarge"]})
    cluster.wait("second", "ACTIVE")
    assert [each["InstanceType"] for each in cluster.instances("second")] == ["g6e.xlarge"]

    # A group that is there already goes on without what it cannot have, and gets it when it can be had.
    admin(sandbox, "PUT", "faults", {"no_capacity": [*none, {"instance_type": "g6e.xlarge"}]})
    name = cluster.scaling_group("second")["AutoScalingGroupName"]
    cluster.autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=2)
    assert cluster.wait("second", "DEGRADED")["health"]["issues"][0]["code"] == "AsgInstanceLaunchFailures"
    admin(sandbox, "DELETE", "faults")
    assert cluster.wait("second", "ACTIVE")["scalingConfig"]["desiredSize"] == 2
    assert len(cluster.instances("second")) == 2
    cluster.delete("second")


def test_the_autoscaler_scales_real_nodes(cluster: Cluster) -> None:
    cluster.make(
        "scaled",
        scalingConfig={"minSize": 0, "maxSize": 3, "desiredSize": 0},
        labels={"kind": "gpu"},
        taints=[{"key": "k", "value": "v", "effect": "NO_SCHEDULE"}],
    )
    seen = cluster.wait("scaled", "ACTIVE")
    assert (seen["labels"], seen["taints"][0]["key"]) == ({"kind": "gpu"}, "k")
    name = cluster.scaling_group("scaled")["AutoScalingGroupName"]
    node_label = "k8s.io/cluster-autoscaler/node-template/label/kind"
    tag = {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": node_label, "Value": "gpu"}
    cluster.autoscaling.create_or_update_tags(Tags=[{**tag, "PropagateAtLaunch": False}])
    tags = {each["Key"]: each["Value"] for each in cluster.scaling_group("scaled")["Tags"]}
    assert tags[node_label] == "gpu"
    assert tags["k8s.io/cluster-autoscaler/enabled"] == "true"
    set_capacity = cluster.autoscaling.set_desired_capacity
    refused(
        set_capacity, "ValidationError", "above max value 3", AutoScalingGroupName=name, DesiredCapacity=4
    )
    refused(
        cluster.autoscaling.create_or_update_tags,
        "ValidationError",
        "not found",
        Tags=[{**tag, "ResourceId": "none", "PropagateAtLaunch": False}],
    )
    set_capacity(AutoScalingGroupName=name, DesiredCapacity=2)
    wait_for(lambda: len(cluster.instances("scaled")) == 2)
    ids = {each["InstanceId"] for each in cluster.instances("scaled")}
    wait_for(lambda: ids <= cluster.nodes())
    assert cluster.group("scaled")["scalingConfig"]["desiredSize"] == 2
    gone = min(ids)
    terminate = cluster.autoscaling.terminate_instance_in_auto_scaling_group
    terminate(InstanceId=gone, ShouldDecrementDesiredCapacity=True)
    wait_for(lambda: gone not in cluster.nodes())
    assert {each["InstanceId"] for each in cluster.instances("scaled")} == ids - {gone}
    assert cluster.group("scaled")["scalingConfig"]["desiredSize"] == 1
    # Ended behind Auto Scaling's back: it launches another.
    cluster.ec2.terminate_instances(InstanceIds=list(ids - {gone}))
    wait_for(
        lambda: (
            cluster.instances("scaled") and not ids & {e["InstanceId"] for e in cluster.instances("scaled")}
        )
    )
    cluster.autoscaling.delete_tags(Tags=[tag])
    assert node_label not in str(cluster.scaling_group("scaled")["Tags"])
    cluster.delete("scaled")


@pytest.mark.parametrize(("strategy", "most"), [("MINIMAL", 1), ("DEFAULT", 2)])
def test_an_update_takes_the_room_that_its_strategy_allows(
    cluster: Cluster, strategy: str, most: int
) -> None:
    name = strategy.lower()
    first = cluster.template(InstanceType="t3.large")
    cluster.make(
        name,
        launchTemplate=first,
        updateConfig={"maxUnavailable": 1, "updateStrategy": strategy},
        scalingConfig={"minSize": 1, "maxSize": 1, "desiredSize": 1},
    )
    cluster.wait(name, "ACTIVE")
    [old] = [each["InstanceId"] for each in cluster.instances(name)]
    version = cluster.ec2.create_launch_template_version(
        LaunchTemplateId=first["id"], LaunchTemplateData={"InstanceType": "t3.xlarge"}
    )["LaunchTemplateVersion"]["VersionNumber"]
    cluster.eks.update_nodegroup_version(
        clusterName=cluster.name,
        nodegroupName=name,
        launchTemplate={"id": first["id"], "version": str(version)},
    )
    seen = []

    def renewed() -> bool:
        running = [each["InstanceId"] for each in cluster.scaling_group(name)["Instances"]]
        seen.append(len(running))
        return old not in running and cluster.group(name)["status"] == "ACTIVE"

    wait_for(renewed)
    assert max(seen) == most
    assert [each["InstanceType"] for each in cluster.instances(name)] == ["t3.xlarge"]
    assert cluster.group(name)["scalingConfig"]["desiredSize"] == 1
    cluster.delete(name)


def pod(name: str, node: str, owner: str = "ReplicaSet", **labels: str) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "o", "apiVersion": "v1", "uid": "1"}]
    metadata = {"name": name, "namespace": "default", "ownerReferences": owners, "labels": labels}
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running"},
    }


def test_a_spot_interruption_drains_then_replaces(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.make("spot", capacityType="SPOT", instanceTypes=["t3.large"])
    cluster.wait("spot", "ACTIVE")
    [old] = [each["InstanceId"] for each in cluster.instances("spot")]
    [reservation] = cluster.ec2.describe_instances(InstanceIds=[old])["Reservations"]
    assert reservation["Instances"][0]["InstanceLifecycle"] == "spot"
    node = reservation["Instances"][0]["PrivateDnsName"]
    pods = [pod("free", node), pod("held", node, kept="yes"), pod("agent", node, "DaemonSet")]
    path = cluster.directory / "control-plane" / "pods.json"
    path.write_text(json.dumps(pods))
    assert admin(sandbox, "POST", "interruptions", {"instance_id": "i-0"}).status_code == 404
    started = time.monotonic()
    answer = admin(sandbox, "POST", "interruptions", {"instance_id": old, "seconds": 4})
    assert answer.json() == {"cluster": cluster.name, "nodegroup": "spot", "instance_id": old, "seconds": 4.0}

    def left() -> list[str]:
        return [each["metadata"]["name"] for each in json.loads(path.read_text())]

    wait_for(lambda: left() == ["held", "agent"])
    wait_for(lambda: old not in [each["InstanceId"] for each in cluster.instances("spot")])
    assert time.monotonic() - started >= 4
    changes = [json.loads(line) for line in (path.parent / "changes").read_text().splitlines()]
    cordon = {"spec": {"unschedulable": True}}
    assert any(method == "PATCH" and json.loads(body) == cordon for method, _, body in changes)
    assert not any("agent" in where for _, where, _ in changes)
    path.unlink()
    wait_for(lambda: len(cluster.instances("spot")) == 1)
    new = {each["InstanceId"] for each in cluster.instances("spot")}
    wait_for(lambda: new <= cluster.nodes())
    cluster.delete("spot")


def test_interfaces_stay_behind_where_the_cni_went_first(own_sandbox: Sandbox) -> None:
    cluster = Cluster(own_sandbox)
    cni = {"clusterName": cluster.name, "addonName": "vpc-cni"}
    cluster.eks.create_addon(**cni)
    cluster.make("first")
    cluster.wait("first", "ACTIVE")
    cluster.delete("first")
    leaked = {"Filters": [{"Name": "status", "Values": ["available"]}]}
    assert cluster.ec2.describe_network_interfaces(**leaked)["NetworkInterfaces"] == []
    cluster.make("second")
    cluster.wait("second", "ACTIVE")
    [instance] = [each["InstanceId"] for each in cluster.instances("second")]
    wait_for(lambda: cluster.eks.describe_addon(**cni)["addon"]["status"] == "ACTIVE")
    cluster.eks.delete_addon(**cni)
    cluster.delete("second")
    own_sandbox.kill()
    own_sandbox.start()
    [interface] = cluster.ec2.describe_network_interfaces(**leaked)["NetworkInterfaces"]
    tags = {each["Key"]: each["Value"] for each in interface["TagSet"]}
    assert interface["Description"] == f"aws-K8S-{instance}"
    assert tags["node.k8s.amazonaws.com/instance_id"] == instance
    group = cluster.eks.describe_cluster(name=cluster.name)["cluster"]["resourcesVpcConfig"]
    assert interface["Groups"][0]["GroupId"] == group["clusterSecurityGroupId"]
    cluster.eks.delete_cluster(name=cluster.name)
    wait_for(lambda: cluster.eks.list_clusters()["clusters"] == [])
    refused(
        cluster.ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=interface["SubnetId"]
    )
    refused(
        cluster.ec2.delete_security_group,
        "DependencyViolation",
        "dependent object",
        GroupId=group["clusterSecurityGroupId"],
    )
    cluster.ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
    cluster.ec2.delete_security_group(GroupId=group["clusterSecurityGroupId"])
    cluster.ec2.delete_subnet(SubnetId=interface["SubnetId"])


def test_pods_get_the_role_of_their_service_account(cluster: Cluster, sandbox: Sandbox) -> None:
    role = make_role(sandbox, "scaler", "pods.eks.amazonaws.com")
    url = f"{sandbox.endpoint}/_sandbox/eks/{cluster.name}"
    asked = f"{url}/pod-identity/kube-system/cluster-autoscaler"
    assert httpx.get(asked).json() == {"associated": False}

    def credentials(token: str) -> httpx.Response:
        return httpx.get(f"{url}/pod-identity-credentials", headers={"Authorization": token}, timeout=30)

    token = "good:kube-system:cluster-autoscaler"  # what the stand-in takes for one
    eks = cluster.eks
    assert credentials(token).json()["message"] == "No Pod Identity Agent runs on the node."
    eks.create_addon(clusterName=cluster.name, addonName="eks-pod-identity-agent")
    assert credentials(token).json()["code"] == "ResourceNotFoundException"
    made = eks.create_pod_identity_association(
        clusterName=cluster.name, namespace="kube-system", serviceAccount="cluster-autoscaler", roleArn=role
    )["association"]
    assert httpx.get(asked).json() == {"associated": True}
    bad = credentials("bad")
    assert (bad.status_code, bad.json()["code"]) == (400, "InvalidTokenException")
    given = credentials(token).json()
    client = sandbox.client(
        "sts", key=given["AccessKeyId"], secret=given["SecretAccessKey"], token=given["Token"]
    )
    assert client.get_caller_identity()["Arn"].startswith(
        "arn:aws:sts::123456789012:assumed-role/scaler/eks-"
    )
    which = {"clusterName": cluster.name, "associationId": made["associationId"]}
    eks.delete_pod_identity_association(**which)
    assert credentials(token).status_code == 404


def test_addresses_are_those_of_the_vpc(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.make("addressed")
    cluster.wait("addressed", "ACTIVE")
    [instance] = [each["InstanceId"] for each in cluster.instances("addressed")]
    arguments = json.loads((cluster.directory / "nodes" / instance / "arguments").read_text())
    [reservation] = cluster.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    known = httpx.get(f"{sandbox.endpoint}/_sandbox/addresses").json()
    assert (
        known[arguments[arguments.index("--address") + 1]] == reservation["Instances"][0]["PrivateIpAddress"]
    )
    cluster.delete("addressed")
