"""Types of the AWS plugin one by one: made, changed in place or replaced, and gone, as AWS then says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.plugins.conftest import aws_configuration
from tests.plugins.driver import Plugin
from tests.plugins.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.plugins.conftest import Account
    from tests.plugins.driver import Resource

ACCOUNT = "arn:aws:iam::123456789012:root"


def policy(action: str, resource: str = "*") -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Needs:
    """What objects of a type need before they can be made, made when it is asked for."""

    def __init__(self, aws: Plugin, account: Account) -> None:
        self._aws, self.account = aws, account

    def __getattr__(self, name: str) -> Resource:
        type_, inputs = getattr(self, f"_{name}")()
        made = self._aws.create(type_, name, inputs)
        setattr(self, name, made)
        return made

    def _vpc(self) -> tuple[str, dict[str, Any]]:
        settings = {"enableDnsHostnames": True, "enableDnsSupport": True}
        return "aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16", **settings}

    def _subnet(self, index: int = 0) -> tuple[str, dict[str, Any]]:
        zone = f"us-east-1{'ab'[index]}"
        block = f"10.0.{index}.0/24"
        place = {"vpcId": self.vpc.id, "cidrBlock": block, "availabilityZone": zone}
        return "aws:ec2/subnet:Subnet", place

    def _other_subnet(self) -> tuple[str, dict[str, Any]]:
        return self._subnet(1)

    def _firewall(self) -> tuple[str, dict[str, Any]]:
        return "aws:ec2/securityGroup:SecurityGroup", {"vpcId": self.vpc.id, "name": "endpoints"}

    def _key(self) -> tuple[str, dict[str, Any]]:
        return "aws:kms/key:Key", {}

    def _other_key(self) -> tuple[str, dict[str, Any]]:
        return "aws:kms/key:Key", {}

    def _role(self) -> tuple[str, dict[str, Any]]:
        service = {"Service": "vpc-flow-logs.amazonaws.com"}
        statement = {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        return "aws:iam/role:Role", {"assumeRolePolicy": trust}

    def _logs(self) -> tuple[str, dict[str, Any]]:
        return "aws:cloudwatch/logGroup:LogGroup", {"name": "/flow"}

    def _bucket(self) -> tuple[str, dict[str, Any]]:
        return "aws:s3/bucket:Bucket", {"forceDestroy": True}

    def _balancer(self) -> tuple[str, dict[str, Any]]:
        subnets = [self.subnet.id, self.other_subnet.id]
        return "aws:lb/loadBalancer:LoadBalancer", {"subnets": subnets, "internal": True}

    def _acl(self) -> tuple[str, dict[str, Any]]:
        return "aws:wafv2/webAcl:WebAcl", acl()

    def group(self) -> str:
        """Make an Auto Scaling group, which no type of the plugin is."""
        client = self.account.client("autoscaling")
        client.create_launch_configuration(
            LaunchConfigurationName="l", ImageId="ami-12c6146b", InstanceType="t3.micro"
        )
        client.create_auto_scaling_group(
            AutoScalingGroupName="nodes",
            LaunchConfigurationName="l",
            MinSize=0,
            MaxSize=0,
            VPCZoneIdentifier=self.subnet.id,
        )
        return "nodes"


@dataclass(frozen=True)
class Life:
    """What becomes of an object of a type.

    Args:
        type: the type.
        inputs: what it is made of.
        seen: what AWS says of it; None, or an error of AWS, where it is gone.
        made: what AWS is to say at first.
        change: inputs that are changed in place.
        changed: what AWS is to say then.
        replaced: input whose change needs a new object, by the path that says so.
    """

    type: str
    inputs: Callable[[Needs], dict[str, Any]]
    seen: Callable[[Account, Resource], Any]
    made: Any
    change: Callable[[Needs], dict[str, Any]] = lambda _: {}
    changed: Any = None
    replaced: dict[str, Any] = field(default_factory=dict)


def acl(**more: Any) -> dict[str, Any]:
    metrics = {"cloudwatchMetricsEnabled": True, "sampledRequestsEnabled": True}
    managed = {"name": "AWSManagedRulesCommonRuleSet", "vendorName": "AWS"}
    override = {"name": "SizeRestrictions_BODY", "actionToUse": {"count": {}}}
    path = {
        "fieldToMatch": {"uriPath": {}},
        "positionalConstraint": "STARTS_WITH",
        "searchString": "/v1/",
        "textTransformations": [{"priority": 0, "type": "NONE"}],
    }
    rules = [
        {
            "name": "common",
            "priority": 0,
            "overrideAction": {"none": {}},
            "statement": {"managedRuleGroupStatement": {**managed, "ruleActionOverrides": [override]}},
            "visibilityConfig": {**metrics, "metricName": "common"},
        },
        {
            "name": "rate",
            "priority": 1,
            "action": {"block": {}},
            "statement": {"rateBasedStatement": {"limit": 1000, "aggregateKeyType": "IP"}},
            "visibilityConfig": {**metrics, "metricName": "rate"},
        },
        {
            "name": "paths",
            "priority": 2,
            "action": {"block": {"customResponse": {"responseCode": 404, "customResponseBodyKey": "gone"}}},
            "statement": {"notStatement": {"statement": {"byteMatchStatement": path}}},
            "visibilityConfig": {**metrics, "metricName": "paths"},
        },
    ]
    return {
        "scope": "REGIONAL",
        "defaultAction": {"allow": {}},
        "rules": rules,
        "customResponseBodies": [{"key": "gone", "content": "{}", "contentType": "APPLICATION_JSON"}],
        "visibilityConfig": {**metrics, "metricName": "acl"},
        **more,
    }


def seen_acl(account: Account, made: Resource) -> dict[str, Any]:
    place = {"Name": made.outputs["name"], "Scope": "REGIONAL", "Id": made.id}
    found = account.client("wafv2").get_web_acl(**place)["WebACL"]
    rules = {rule["Name"]: rule["Statement"] for rule in found["Rules"]}
    negated = rules.get("paths", {}).get("NotStatement", {}).get("Statement", {})
    return {
        "default": next(iter(found["DefaultAction"])),
        "rules": list(rules),
        "limit": rules.get("rate", {}).get("RateBasedStatement", {}).get("Limit"),
        "path": negated.get("ByteMatchStatement", {}).get("SearchString"),
    }


def seen_key(account: Account, made: Resource) -> dict[str, Any] | None:
    kms = account.client("kms")
    found = kms.describe_key(KeyId=made.id)["KeyMetadata"]
    if found["KeyState"] == "PendingDeletion":
        return None
    rotation = kms.get_key_rotation_status(KeyId=made.id)
    actions = json.loads(kms.get_key_policy(KeyId=made.id, PolicyName="default")["Policy"])["Statement"]
    return {
        "description": found["Description"],
        "state": found["KeyState"],
        "rotates": rotation["KeyRotationEnabled"],
        "policy": actions[0]["Action"],
    }


def seen_alias(account: Account, made: Resource) -> bool | None:
    found = account.client("kms").list_aliases()["Aliases"]
    targets = [item["TargetKeyId"] for item in found if item["AliasName"] == made.id]
    return targets[0] == made.outputs["targetKeyId"] if targets else None


def seen_flow_log(account: Account, made: Resource) -> dict[str, Any] | None:
    found = account.client("ec2").describe_flow_logs(FlowLogIds=[made.id])["FlowLogs"]
    keys = ("TrafficType", "MaxAggregationInterval", "LogDestinationType")
    return {key: found[0][key] for key in keys} if found else None


def seen_endpoint(account: Account, made: Resource) -> dict[str, Any] | None:
    found = account.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[made.id])["VpcEndpoints"]
    if not found or found[0]["State"].lower() == "deleted":
        return None
    return {"subnets": len(found[0]["SubnetIds"]), "private": found[0]["PrivateDnsEnabled"]}


def seen_tag(account: Account, made: Resource) -> tuple[str, bool] | None:
    filters = [{"Name": "auto-scaling-group", "Values": ["nodes"]}]
    found = account.client("autoscaling").describe_tags(Filters=filters)["Tags"]
    return next(
        ((tag["Value"], tag["PropagateAtLaunch"]) for tag in found if made.id == f"nodes,{tag['Key']}"), None
    )


def seen_association(account: Account, made: Resource) -> bool | None:
    resource = made.outputs["resourceArn"]
    found = account.client("wafv2").get_web_acl_for_resource(ResourceArn=resource).get("WebACL")
    return bool(found["ARN"] == made.outputs["webAclArn"]) if found else None


def seen_bucket_policy(account: Account, made: Resource) -> Any:
    found = account.client("s3").get_bucket_policy(Bucket=made.id)["Policy"]
    return json.loads(found)["Statement"][0]["Action"]


def seen_lifecycle(account: Account, made: Resource) -> Any:
    rules = account.client("s3").get_bucket_lifecycle_configuration(Bucket=made.id)["Rules"]
    return {rule["ID"]: (rule.get("Expiration", {}).get("Days"), rule["Filter"]) for rule in rules}


def seen_encryption(account: Account, made: Resource) -> Any:
    found = account.client("s3").get_bucket_encryption(Bucket=made.id)
    rule = found["ServerSideEncryptionConfiguration"]["Rules"][0]
    return rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], rule.get("BucketKeyEnabled", False)


def seen_logs(account: Account, made: Resource) -> Any:
    client = account.client("elbv2")
    found = client.describe_load_balancer_attributes(LoadBalancerArn=made.id)["Attributes"]
    actual = {item["Key"]: item["Value"] for item in found}
    return actual["access_logs.s3.enabled"], actual.get("access_logs.s3.prefix", "")


def seen_parameter(account: Account, made: Resource) -> Any:
    found = account.client("ssm").get_parameter(Name=made.id, WithDecryption=True)["Parameter"]
    return found["Type"], found["Value"]


LIVES = [
    Life(
        "aws:ssm/parameter:Parameter",
        lambda _: {"name": "/berth/token", "type": "SecureString", "value": "hush", "tags": {"a": "b"}},
        seen_parameter,
        ("SecureString", "hush"),
        lambda _: {"value": "other", "description": "a token", "tags": {}},
        ("SecureString", "other"),
        {"name": "/berth/another"},
    ),
    Life(
        "aws:kms/key:Key",
        lambda _: {"description": "secrets", "deletionWindowInDays": 7, "enableKeyRotation": True,
                   "policy": policy("kms:*"), "tags": {"a": "b"}},
        seen_key,
        {"description": "secrets", "state": "Enabled", "rotates": True, "policy": "kms:*"},
        lambda _: {"description": "other", "enableKeyRotation": False, "isEnabled": False,
                   "policy": policy("kms:Decrypt"), "deletionWindowInDays": 10, "tags": {"c": "d"}},
        {"description": "other", "state": "Disabled", "rotates": False, "policy": "kms:Decrypt"},
        {"multiRegion": True},
    ),
    Life(
        "aws:kms/alias:Alias",
        lambda needs: {"name": "alias/cluster", "targetKeyId": needs.key.outputs["arn"]},
        seen_alias,
        False,  # the alias has the key's id, and was given its ARN
        lambda needs: {"targetKeyId": needs.other_key.id},
        True,
        {"name": "alias/other"},
    ),
    Life(
        "aws:ec2/flowLog:FlowLog",
        lambda needs: {"vpcId": needs.vpc.id, "trafficType": "REJECT", "maxAggregationInterval": 60,
                       "iamRoleArn": needs.role.outputs["arn"], "logDestination": needs.logs.outputs["arn"]},
        seen_flow_log,
        {"TrafficType": "REJECT", "MaxAggregationInterval": 60, "LogDestinationType": "cloud-watch-logs"},
        lambda _: {"tags": {"a": "b"}},
        {"TrafficType": "REJECT", "MaxAggregationInterval": 60, "LogDestinationType": "cloud-watch-logs"},
        {"trafficType": "ALL"},
    ),
    Life(
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        lambda needs: {"vpcId": needs.vpc.id, "serviceName": "com.amazonaws.us-east-1.ecr.api",
                       "vpcEndpointType": "Interface", "privateDnsEnabled": True,
                       "subnetIds": [needs.subnet.id], "securityGroupIds": [needs.firewall.id]},
        seen_endpoint,
        {"subnets": 1, "private": True},
        lambda needs: {"subnetIds": [needs.subnet.id, needs.other_subnet.id], "tags": {"a": "b"}},
        {"subnets": 2, "private": True},
        {"serviceName": "com.amazonaws.us-east-1.ecr.dkr"},
    ),
    Life(
        "aws:autoscaling/tag:Tag",
        lambda needs: {"autoscalingGroupName": needs.group(),
                       "tag": {"key": "k8s.io/node", "value": "a", "propagateAtLaunch": False}},
        seen_tag,
        ("a", False),
        lambda _: {"tag": {"key": "k8s.io/node", "value": "b", "propagateAtLaunch": True}},
        ("b", True),
        {"tag": {"key": "other", "value": "a", "propagateAtLaunch": False}},
    ),
    Life(
        "aws:wafv2/webAcl:WebAcl",
        lambda _: acl(tags={"a": "b"}),
        seen_acl,
        {"default": "Allow", "rules": ["common", "rate", "paths"], "limit": 1000, "path": b"/v1/"},
        lambda _: {"defaultAction": {"block": {}}, "rules": acl()["rules"][:1], "customResponseBodies": None,
                   "tags": {}},
        {"default": "Block", "rules": ["common"], "limit": None, "path": None},
        {"name": "another"},
    ),
    Life(
        "aws:wafv2/webAclAssociation:WebAclAssociation",
        lambda needs: {"resourceArn": needs.balancer.id, "webAclArn": needs.acl.outputs["arn"]},
        seen_association,
        True,
        replaced={"webAclArn": "arn:other"},
    ),
    Life(
        "aws:s3/bucketPolicy:BucketPolicy",
        lambda needs: {"bucket": needs.bucket.id, "policy": json.loads(policy("s3:GetObject"))},
        seen_bucket_policy,
        "s3:GetObject",
        lambda _: {"policy": policy("s3:PutObject")},
        "s3:PutObject",
        {"bucket": "other"},
    ),
    Life(
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        lambda needs: {"bucket": needs.bucket.id, "rules": [
            {"id": "logs", "status": "Enabled", "expiration": {"days": 30}, "filter": {"prefix": "alb/"}},
            {"id": "parts", "status": "Enabled",
             "abortIncompleteMultipartUpload": {"daysAfterInitiation": 1}},
        ]},
        seen_lifecycle,
        {"logs": (30, {"Prefix": "alb/"}), "parts": (None, {"Prefix": ""})},
        lambda _: {"rules": [
            {"id": "logs", "status": "Enabled", "expiration": {"days": 7},
             "filter": {"and": {"prefix": "a/", "tags": {"k": "v"}}}},
        ]},
        {"logs": (7, {"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}})},
        {"bucket": "other"},
    ),
    Life(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        lambda needs: {"bucket": needs.bucket.id, "rules": [
            {"bucketKeyEnabled": True, "applyServerSideEncryptionByDefault": {
                "sseAlgorithm": "aws:kms", "kmsMasterKeyId": needs.key.id}},
        ]},
        seen_encryption,
        ("aws:kms", True),
        lambda _: {"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]},
        ("AES256", False),
        {"bucket": "other"},
    ),
    Life(
        "aws:lb/loadBalancer:LoadBalancer",
        lambda needs: {"internal": True, "subnets": [needs.subnet.id, needs.other_subnet.id],
                       "accessLogs": {"bucket": needs.bucket.id, "prefix": "alb", "enabled": True}},
        seen_logs,
        ("true", "alb"),
        lambda _: {"accessLogs": None, "enableDeletionProtection": False, "dropInvalidHeaderFields": True},
        ("false", "alb"),
        {"internal": False},
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def next_run(account: Account) -> Iterator[Plugin]:
    """A plugin that knows nothing of what another one has made."""
    plugin = Plugin("aws", aws_configuration(account.endpoint))
    yield plugin
    plugin.close()


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.type.rpartition(":")[2])
def test_life(life: Life, empty_account: Account, aws: Plugin, next_run: Plugin) -> None:
    needs, stack = Needs(aws, empty_account), Stack(aws)
    inputs = life.inputs(needs)
    made = stack.make(life.type, "it", inputs)
    assert life.seen(empty_account, made) == life.made
    # As after a kill before anything was noted: what is there is taken up.
    assert next_run.create(life.type, "it", inputs).id == made.id
    for key, value in life.replaced.items():
        assert aws.diff(made, {**inputs, key: value}).replaces[0].startswith(key)
    if change := life.change(needs):
        changed = stack.change(made, **change)
        assert life.seen(empty_account, changed) == life.changed
    stack.delete_all()
    assert seen_gone(life, empty_account, made)


def seen_gone(life: Life, account: Account, made: Resource) -> bool:
    try:
        return life.seen(account, made) is None
    except ClientError as error:
        return "NotFound" in str(error) or "NoSuch" in str(error) or "Nonexistent" in str(error)
