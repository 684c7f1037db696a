"""Every type of the AWS plugin through its life, and what happens when a life is cut short."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from sandbox.plugins.aws.types import MARKER
from tests.plugins.driver import Plugin, Refused
from tests.plugins.stack import Stack

if TYPE_CHECKING:
    from tests.plugins.conftest import Account

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
ROLE = "aws:iam/role:Role"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)

ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
READ = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW]})


@pytest.mark.usefixtures("empty_account")
def test_network_and_compute(aws: Plugin) -> None:
    stack = Stack(aws)
    vpc = stack.make(
        VPC, "net", {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": True, "tags": {"Name": "n"}}
    )
    assert vpc.outputs["tagsAll"] == {"Name": "n", "project": "berth", "stack": "local"}
    gateway = stack.make("aws:ec2/internetGateway:InternetGateway", "igw", {"vpcId": vpc.id})
    subnet = stack.make(
        SUBNET,
        "a",
        {
            "vpcId": vpc.id,
            "cidrBlock": "10.0.0.0/24",
            "availabilityZone": "us-east-1a",
            "mapPublicIpOnLaunch": True,
        },
    )
    other = stack.make(
        SUBNET, "b", {"vpcId": vpc.id, "cidrBlock": "10.0.1.0/24", "availabilityZone": "us-east-1b"}
    )
    address = stack.make("aws:ec2/eip:Eip", "nat", {"domain": "vpc"})
    nat = stack.make(
        "aws:ec2/natGateway:NatGateway", "nat", {"subnetId": subnet.id, "allocationId": address.id}
    )
    assert nat.outputs["publicIp"] == address.outputs["publicIp"]
    table = stack.make("aws:ec2/routeTable:RouteTable", "public", {"vpcId": vpc.id})
    route = stack.make(
        "aws:ec2/route:Route",
        "public",
        {"routeTableId": table.id, "destinationCidrBlock": "0.0.0.0/0", "gatewayId": gateway.id},
    )
    assert route.outputs["state"] == "active"
    stack.make(
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "a",
        {"routeTableId": table.id, "subnetId": subnet.id},
    )
    endpoint = stack.make(
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "s3",
        {
            "vpcId": vpc.id,
            "serviceName": "com.amazonaws.us-east-1.s3",
            "vpcEndpointType": "Gateway",
            "routeTableIds": [table.id],
        },
    )
    group = stack.make("aws:ec2/securityGroup:SecurityGroup", "alb", {"vpcId": vpc.id, "description": "ALB"})
    rule = stack.make(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "http",
        {
            "securityGroupId": group.id,
            "ipProtocol": "tcp",
            "fromPort": 80,
            "toPort": 80,
            "cidrIpv4": "0.0.0.0/0",
            "description": "HTTP",
        },
    )
    stack.make(
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "nodes",
        {"securityGroupId": group.id, "ipProtocol": "-1", "referencedSecurityGroupId": group.id},
    )
    template = stack.make(
        "aws:ec2/launchTemplate:LaunchTemplate",
        "gpu",
        {
            "blockDeviceMappings": [
                {
                    "deviceName": "/dev/xvda",
                    "ebs": {"volumeSize": 200, "volumeType": "gp3", "encrypted": "true"},
                }
            ],
            "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
            "tagSpecifications": [{"resourceType": "instance", "tags": {"Name": "gpu"}}],
            "updateDefaultVersion": True,
        },
    )
    balancer = stack.make(
        "aws:lb/loadBalancer:LoadBalancer",
        "alb",
        {
            "loadBalancerType": "application",
            "internal": False,
            "subnets": [subnet.id, other.id],
            "securityGroups": [group.id],
            "idleTimeout": 300,
        },
    )
    assert balancer.outputs["arn"].endswith(balancer.outputs["arnSuffix"])
    targets = stack.make(
        "aws:lb/targetGroup:TargetGroup",
        "nodes",
        {
            "port": 30080,
            "protocol": "HTTP",
            "vpcId": vpc.id,
            "targetType": "instance",
            "deregistrationDelay": 30,
            "healthCheck": {"path": "/health", "matcher": "200", "interval": 10, "port": "traffic-port"},
        },
    )
    listener = stack.make(
        "aws:lb/listener:Listener",
        "http",
        {
            "loadBalancerArn": balancer.id,
            "port": 80,
            "protocol": "HTTP",
            "defaultActions": [
                {
                    "type": "fixed-response",
                    "fixedResponse": {"contentType": "text/plain", "statusCode": "404"},
                }
            ],
        },
    )
    forward = stack.make(
        "aws:lb/listenerRule:ListenerRule",
        "v1",
        {
            "listenerArn": listener.id,
            "priority": 10,
            "actions": [{"type": "forward", "targetGroupArn": targets.id}],
            "conditions": [{"pathPattern": {"values": ["/v1/*", "/health"]}}],
        },
    )
    stack.change(vpc, enableDnsHostnames=False, tags={"Name": "m"})
    stack.change(subnet, mapPublicIpOnLaunch=False)
    stack.change(endpoint, tags={"a": "b"})
    stack.change(rule, toPort=81)
    assert stack.change(template, userData="aGVsbG8=").outputs["latestVersion"] == 2
    stack.change(balancer, idleTimeout=60, tags={"a": "b"})
    stack.change(targets, deregistrationDelay=60, healthCheck={"path": "/ping", "matcher": "200"})
    stack.change(forward, conditions=[{"pathPattern": {"values": ["/v2/*"]}}], priority=20)
    stack.delete_all()


def test_images_builds_and_roles(empty_account: Account, aws: Plugin) -> None:
    stack = Stack(aws)
    repository = stack.make(
        "aws:ecr/repository:Repository",
        "image",
        {
            "forceDelete": True,
            "imageTagMutability": "IMMUTABLE",
            "imageScanningConfiguration": {"scanOnPush": True},
        },
    )
    assert repository.outputs["repositoryUrl"].endswith(repository.outputs["name"])
    rules = [
        {
            "rulePriority": 1,
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5},
            "action": {"type": "expire"},
        }
    ]
    stack.make(
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "image",
        {"repository": repository.id, "policy": json.dumps({"rules": rules})},
    )
    statement = {
        "Sid": "pull",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": ["ecr:BatchGetImage"],
    }
    policy = stack.make(
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "image",
        {
            "repository": repository.id,
            "policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        },
    )
    bucket = stack.make("aws:s3/bucket:Bucket", "source", {"forceDestroy": True})
    stack.make(
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "source",
        {"bucket": bucket.id, "blockPublicAcls": True, "restrictPublicBuckets": True},
    )
    source = stack.make(
        "aws:s3/bucketObjectv2:BucketObjectv2",
        "source",
        {
            "bucket": bucket.id,
            "key": "a/b.zip",
            "contentBase64": "aGVsbG8=",
            "contentType": "application/zip",
        },
    )
    body = empty_account.client("s3").get_object(Bucket=bucket.id, Key="a/b.zip")["Body"].read()
    assert body == b"hello"
    role = stack.make(ROLE, "build", {"assumeRolePolicy": TRUST})
    stack.make(
        "aws:iam/rolePolicy:RolePolicy",
        "build",
        {"role": role.id, "policy": json.dumps({"Version": "2012-10-17", "Statement": [ALLOW]})},
    )
    managed = empty_account.client("iam").create_policy(PolicyName="managed", PolicyDocument=READ)["Policy"]
    stack.make(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "build",
        {"role": role.id, "policyArn": managed["Arn"]},
    )
    group = stack.make("aws:cloudwatch/logGroup:LogGroup", "build", {"name": "/b/c", "retentionInDays": 14})
    assert not group.outputs["arn"].endswith("*")
    stack.make(
        "aws:codebuild/project:Project",
        "image",
        {
            "artifacts": {"type": "NO_ARTIFACTS"},
            "environment": {
                "computeType": "BUILD_GENERAL1_SMALL",
                "image": "aws/codebuild/standard:7.0",
                "type": "LINUX_CONTAINER",
                "privilegedMode": True,
                "environmentVariables": [{"name": "A", "value": "b"}],
            },
            "serviceRole": role.outputs["arn"],
            "source": {"type": "S3", "location": f"{bucket.id}/a/b.zip", "buildspec": "version: 0.2"},
            "logsConfig": {"cloudwatchLogs": {"groupName": "/b/c"}},
        },
    )
    stack.change(repository, imageTagMutability="MUTABLE", tags={"a": "b"})
    stack.change(
        policy, policy=json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Sid": "q"}]})
    )
    stack.change(bucket, tags={"a": "b"})
    assert stack.change(source, contentBase64="aGV5").outputs["etag"] != source.outputs["etag"]
    stack.change(role, description="builds", assumeRolePolicy=TRUST.replace("eks.", "codebuild."))
    stack.change(group, retentionInDays=7, tags={"a": "b"})
    stack.delete_all()


def test_a_create_that_was_cut_short_is_taken_up_again(empty_account: Account, aws: Plugin) -> None:
    inputs = {"cidrBlock": "10.0.0.0/16"}
    first = aws.create(VPC, "net", inputs)
    role = aws.create(ROLE, "node", {"assumeRolePolicy": TRUST})
    bucket = aws.create("aws:s3/bucket:Bucket", "cut-short", {})
    aws.restart()  # the engine died before it noted any of them
    assert aws.create(VPC, "net", inputs).id == first.id
    assert aws.create(ROLE, "node", {"assumeRolePolicy": TRUST}).id == role.id
    assert aws.create("aws:s3/bucket:Bucket", "cut-short", {}).id == bucket.id
    assert any("taking over" in line for line in aws.statuses)
    assert len(_own_vpcs(empty_account)) == 1


def test_what_a_create_cut_short_left_goes_when_something_else_is_wanted_now(
    empty_account: Account, aws: Plugin
) -> None:
    first = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16"})
    aws.restart()
    second = aws.create(VPC, "net", {"cidrBlock": "10.1.0.0/16"})
    assert _own_vpcs(empty_account) == [second.id]
    assert first.id != second.id


def test_the_object_that_is_being_replaced_is_not_taken_over(empty_account: Account, aws: Plugin) -> None:
    old = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16"})
    aws.restart()
    assert aws.diff(old, {"cidrBlock": "10.1.0.0/16"}).replaces == ["cidrBlock"]
    new = aws.create(VPC, "net", {"cidrBlock": "10.1.0.0/16"})
    assert new.id != old.id
    aws.delete(old)
    assert _own_vpcs(empty_account) == [new.id]


def test_what_others_made_is_never_taken_over(empty_account: Account, aws: Plugin) -> None:
    iam = empty_account.client("iam")
    iam.create_role(RoleName="theirs", AssumeRolePolicyDocument=TRUST)
    inputs = {"name": "theirs", "assumeRolePolicy": TRUST}
    with pytest.raises(Refused, match="theirs exists already, and was not made by this resource"):
        aws.create(ROLE, "node", inputs)
    other = aws.create(ROLE, "other", {**inputs, "name": "other"})
    with pytest.raises(Refused, match="was not made by this resource"):
        aws.create(ROLE, "node", {**inputs, "name": other.id})
    empty_account.client("s3").create_bucket(Bucket="theirs")
    with pytest.raises(Refused, match="was not made by this resource"):
        aws.create("aws:s3/bucket:Bucket", "source", {"bucket": "theirs"})


@pytest.mark.usefixtures("empty_account")
def test_changes_that_replace_and_changes_that_do_not(aws: Plugin) -> None:
    vpc = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16"})
    assert aws.diff(vpc, {"cidrBlock": "10.0.0.0/16", "enableDnsSupport": False}).paths == {
        "enableDnsSupport": "ADD"
    }
    replaced = aws.diff(vpc, {"cidrBlock": "10.9.0.0/16"})
    assert replaced.paths == {"cidrBlock": "UPDATE_REPLACE"}
    assert not replaced.delete_before_replace
    named = aws.create(ROLE, "named", {"name": "named", "path": "/a/", "assumeRolePolicy": TRUST})
    assert aws.diff(named, {"name": "named", "path": "/b/", "assumeRolePolicy": TRUST}).delete_before_replace
    made_up = aws.create(ROLE, "made-up", {"path": "/a/", "assumeRolePolicy": TRUST})
    assert not aws.diff(made_up, {"path": "/b/", "assumeRolePolicy": TRUST}).delete_before_replace


@pytest.mark.usefixtures("empty_account")
def test_the_same_policy_written_otherwise_is_no_change(aws: Plugin) -> None:
    role = aws.create(ROLE, "node", {"assumeRolePolicy": TRUST})
    assert not aws.diff(role, {"assumeRolePolicy": json.dumps(json.loads(TRUST), indent=2)}).changes


def test_a_refresh_shows_what_others_changed(empty_account: Account, aws: Plugin) -> None:
    vpc = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": True, "tags": {"a": "b"}})
    ec2 = empty_account.client("ec2")
    ec2.modify_vpc_attribute(VpcId=vpc.id, EnableDnsHostnames={"Value": False})
    ec2.create_tags(Resources=[vpc.id], Tags=[{"Key": "a", "Value": "c"}, {"Key": "d", "Value": "e"}])
    read = aws.read(vpc)
    assert read is not None
    assert read.inputs == {
        "cidrBlock": "10.0.0.0/16",
        "enableDnsHostnames": False,
        "tags": {"a": "c", "d": "e"},
    }
    mended = aws.update(read, vpc.inputs)
    tags = ec2.describe_vpcs(VpcIds=[vpc.id])["Vpcs"][0]["Tags"]
    marks = [tag["Key"] for tag in tags if tag["Key"] == MARKER]
    assert {tag["Key"]: tag["Value"] for tag in tags if tag["Key"] != MARKER} == mended.outputs["tagsAll"]
    assert marks == [MARKER]


def test_new_default_tags_reach_what_exists(empty_account: Account, aws: Plugin) -> None:
    role = aws.create(ROLE, "node", {"assumeRolePolicy": TRUST})
    aws.configure({**aws.configuration, "defaultTags": json.dumps({"tags": {"owner": "me"}})})
    try:
        difference = aws.diff(role, {"assumeRolePolicy": TRUST})
        assert difference.paths == {
            "tagsAll.owner": "ADD", "tagsAll.project": "DELETE", "tagsAll.stack": "DELETE",
        }  # fmt: skip
        aws.update(role, {"assumeRolePolicy": TRUST})
        tags = empty_account.client("iam").list_role_tags(RoleName=role.id)["Tags"]
        assert {tag["Key"] for tag in tags} == {"owner", MARKER}
    finally:
        aws.configure(aws.configuration)


def test_a_delete_waits_for_what_is_still_in_use(empty_account: Account, aws: Plugin) -> None:
    vpc = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16"})
    subnet = aws.create(SUBNET, "a", {"vpcId": vpc.id, "cidrBlock": "10.0.0.0/24"})
    seen = len(aws.statuses)
    worker = threading.Thread(target=aws.delete, args=(vpc,))
    worker.start()
    deadline = time.monotonic() + 20
    while not any("DependencyViolation" in line for line in aws.statuses[seen:]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    aws.delete(subnet)
    worker.join(20)
    assert _own_vpcs(empty_account) == []


@pytest.mark.usefixtures("empty_account")
def test_a_delete_that_cannot_be_says_why_when_its_time_is_up(aws: Plugin) -> None:
    vpc = aws.create(VPC, "net", {"cidrBlock": "10.0.0.0/16"})
    aws.create(SUBNET, "a", {"vpcId": vpc.id, "cidrBlock": "10.0.0.0/24"})
    with pytest.raises(Refused, match=r"^DeleteVpc: DependencyViolation: "):
        aws.delete(vpc, timeout=0.5)


@pytest.mark.usefixtures("empty_account")
def test_errors_are_one_line_in_the_clouds_words(aws: Plugin) -> None:
    with pytest.raises(Refused, match=r"^CreateSubnet: InvalidVpcID\.NotFound: ") as refused:
        aws.create(SUBNET, "a", {"vpcId": "vpc-0", "cidrBlock": "10.0.0.0/24"})
    assert "\n" not in str(refused.value)


def test_an_endpoint_that_does_not_answer_is_named(aws: Plugin) -> None:
    lost = Plugin("aws")
    try:
        with pytest.raises(Refused, match=r"GetCallerIdentity: Could not connect to the endpoint URL"):
            lost.configure(
                {**aws.configuration, "endpoints": '[{"sts": "http://127.0.0.1:1"}]', "maxRetries": "1"}
            )
    finally:
        lost.close()


@pytest.mark.usefixtures("empty_account")
def test_functions(aws: Plugin) -> None:
    assert aws.invoke("aws:index/getCallerIdentity:getCallerIdentity", {})["accountId"] == "123456789012"
    assert aws.invoke("aws:index/getRegion:getRegion", {})["region"] == "us-east-1"
    zones = aws.invoke(
        "aws:index/getAvailabilityZones:getAvailabilityZones",
        {"state": "available", "excludeNames": ["us-east-1a"]},
    )
    assert zones["names"][0] == "us-east-1b"
    role = aws.create(ROLE, "deployer", {"assumeRolePolicy": TRUST})
    session = "aws:iam/getSessionContext:getSessionContext"
    assumed = f"arn:aws:sts::123456789012:assumed-role/{role.id}/me"
    assert aws.invoke(session, {"arn": assumed})["issuerArn"] == role.outputs["arn"]
    user = "arn:aws:iam::123456789012:user/me"
    assert aws.invoke(session, {"arn": user})["issuerArn"] == user


def _own_vpcs(account: Account) -> list[str]:
    vpcs = account.client("ec2").describe_vpcs()["Vpcs"]
    return [vpc["VpcId"] for vpc in vpcs if not vpc["IsDefault"]]
