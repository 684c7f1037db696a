"""Keys, endpoints, flow logs, web ACLs, access logs, budgets, quotas: kept and refused as on AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox_aws.support import Sandbox, admin, make_network, make_role, wait_for
from tests.sandbox_aws.test_strict import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = "123456789012"


def test_a_key_waits_for_its_deletion(sandbox: Sandbox) -> None:
    kms = sandbox.client("kms")
    key = kms.create_key(Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
    kms.create_alias(AliasName="alias/secrets", TargetKeyId=key["KeyId"])
    kms.enable_key_rotation(KeyId=key["KeyId"])
    schedule = kms.schedule_key_deletion
    refused(schedule, "ValidationException", "between 7 and 30", KeyId=key["KeyId"], PendingWindowInDays=3)
    schedule(KeyId=key["Arn"], PendingWindowInDays=7)
    seen = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
    assert (seen["KeyState"], seen["Enabled"]) == ("PendingDeletion", False)
    pending = ("KMSInvalidStateException", "is pending deletion")
    refused(schedule, *pending, KeyId=key["KeyId"], PendingWindowInDays=7)
    refused(kms.enable_key_rotation, *pending, KeyId=key["KeyId"])
    refused(kms.create_alias, *pending, AliasName="alias/other", TargetKeyId=key["KeyId"])
    kms.delete_alias(AliasName="alias/secrets")
    create = sandbox.client("logs").create_log_group
    refused(create, "InvalidParameterException", "KMS key", logGroupName="/k", kmsKeyId=key["Arn"])


@pytest.fixture
def named_vpc(sandbox: Sandbox) -> tuple[Any, str, list[str]]:
    ec2 = sandbox.client("ec2")
    vpc, subnets = make_network(sandbox)
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    return ec2, vpc, subnets


def test_the_key_that_aws_makes_for_a_volume_is_awss_own(sandbox: Sandbox) -> None:
    zone = sandbox.client("ec2").describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    volume = sandbox.client("ec2").create_volume(AvailabilityZone=zone, Size=8, Encrypted=True)
    key = sandbox.client("kms").describe_key(KeyId=volume["KmsKeyId"])["KeyMetadata"]
    assert key["KeyManager"] == "AWS"


def test_interface_endpoints(named_vpc: tuple[Any, str, list[str]]) -> None:
    ec2, vpc, subnets = named_vpc
    group = ec2.create_security_group(GroupName="ends", Description="x", VpcId=vpc)["GroupId"]
    wanted = {
        "VpcId": vpc,
        "VpcEndpointType": "Interface",
        "ServiceName": "com.amazonaws.us-east-1.ecr.api",
        "SubnetIds": subnets,
        "SecurityGroupIds": [group],
        "PrivateDnsEnabled": True,
    }
    create = ec2.create_vpc_endpoint
    unknown = {**wanted, "ServiceName": "com.amazonaws.us-east-1.nothing"}
    refused(create, "InvalidServiceName", "does not exist", **unknown)
    refused(
        create, "InvalidParameter", "does not match available", **{**wanted, "VpcEndpointType": "Gateway"}
    )
    refused(create, "InvalidGroup.NotFound", "does not exist", **{**wanted, "SecurityGroupIds": ["sg-0"]})
    refused(
        create,
        "DuplicateSubnetsInSameZone",
        "different availability",
        **{**wanted, "SubnetIds": subnets[:1] * 2},
    )
    made = create(**wanted)["VpcEndpoint"]
    endpoint = made["VpcEndpointId"]
    assert made["State"] == "pending"
    refused(
        create, "InvalidParameter", "conflicting DNS domain for api.ecr.us-east-1.amazonaws.com", **wanted
    )

    def states() -> list[str]:
        found = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-endpoint-type", "Values": ["Interface"]}])
        return [each["State"] for each in found["VpcEndpoints"] if each["VpcEndpointId"] == endpoint]

    wait_for(lambda: states() == ["available"])
    interfaces = ec2.describe_network_interfaces(
        Filters=[{"Name": "description", "Values": [f"VPC Endpoint Interface {endpoint}"]}]
    )["NetworkInterfaces"]
    assert {each["SubnetId"] for each in interfaces} == set(subnets)
    assert all(each["Groups"][0]["GroupId"] == group for each in interfaces)
    assert all(each["PrivateIpAddress"].startswith("10.0.") for each in interfaces)
    refused(ec2.delete_security_group, "DependencyViolation", "dependent object", GroupId=group)
    refused(
        ec2.delete_network_interface,
        "AuthFailure",
        "permission",
        NetworkInterfaceId=interfaces[0]["NetworkInterfaceId"],
    )
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, RemoveSubnetIds=subnets[1:])
    ec2.delete_subnet(SubnetId=subnets[1])
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    wait_for(lambda: states() == [])
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnets[0])


def test_private_names_need_the_vpcs_dns(sandbox: Sandbox) -> None:
    vpc, subnets = make_network(sandbox, gateway=False)
    refused(
        sandbox.client("ec2").create_vpc_endpoint,
        "InvalidParameter",
        "requires both enableDnsSupport and enableDnsHostnames",
        VpcId=vpc,
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.sts",
        SubnetIds=subnets,
        PrivateDnsEnabled=True,
    )


def test_flow_logs_need_a_role_that_can_write(sandbox: Sandbox) -> None:
    ec2, logs = sandbox.client("ec2"), sandbox.client("logs")
    vpc, _ = make_network(sandbox, gateway=False)
    logs.create_log_group(logGroupName="/flow")
    group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/flow"
    wanted = {
        "ResourceIds": [vpc],
        "ResourceType": "VPC",
        "TrafficType": "ALL",
        "LogDestinationType": "cloud-watch-logs",
        "LogDestination": group,
    }
    wrong = make_role(sandbox, "not-flow", "ec2.amazonaws.com")
    failed = ec2.create_flow_logs(**wanted, DeliverLogsPermissionArn=wrong)
    assert failed["FlowLogIds"] == []
    assert failed["Unsuccessful"][0]["Error"] == {"Code": "400", "Message": "Unable to assume given IAM role"}
    role = make_role(sandbox, "flow", "vpc-flow-logs.amazonaws.com")
    made = ec2.create_flow_logs(**wanted, DeliverLogsPermissionArn=role)["FlowLogIds"]
    seen = ec2.describe_flow_logs(FlowLogIds=made)["FlowLogs"][0]
    assert (seen["DeliverLogsStatus"], seen["LogDestination"]) == ("SUCCESS", group)
    refused(ec2.create_flow_logs, "FlowLogAlreadyExists", "existing", **wanted, DeliverLogsPermissionArn=role)
    ec2.delete_flow_logs(FlowLogIds=made)


@pytest.fixture(scope="module")
def load_balancer(sandbox: Sandbox) -> Iterator[str]:
    _, subnets = make_network(sandbox)
    elb = sandbox.client("elbv2")
    arn: str = elb.create_load_balancer(Name="typed", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    yield arn
    elb.delete_load_balancer(LoadBalancerArn=arn)


def test_a_web_acl_in_use_stays(sandbox: Sandbox, load_balancer: str) -> None:
    waf = sandbox.client("wafv2")
    visible = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "m"}
    rule = {
        "Name": "common",
        "Priority": 1,
        "OverrideAction": {"None": {}},
        "Statement": {
            "ManagedRuleGroupStatement": {"VendorName": "AWS", "Name": "AWSManagedRulesCommonRuleSet"}
        },
        "VisibilityConfig": visible,
    }
    wanted = {
        "Scope": "REGIONAL",
        "DefaultAction": {"Allow": {}},
        "VisibilityConfig": visible,
        "Rules": [rule],
    }
    first, second = (waf.create_web_acl(Name=name, **wanted)["Summary"] for name in ("one", "two"))
    refused(waf.create_web_acl, "WAFDuplicateItemException", "duplicate", Name="one", **wanted)
    wanted["Rules"] = [rule, rule]
    refused(waf.create_web_acl, "WAFInvalidParameterException", "priorities", Name="three", **wanted)
    missing = {"WebACLArn": first["ARN"], "ResourceArn": load_balancer[:-1]}
    refused(waf.associate_web_acl, "WAFNonexistentItemException", "exist", **missing)
    waf.associate_web_acl(WebACLArn=first["ARN"], ResourceArn=load_balancer)
    assert waf.list_resources_for_web_acl(WebACLArn=first["ARN"])["ResourceArns"] == [load_balancer]
    gone = {"Name": "one", "Scope": "REGIONAL", "Id": first["Id"], "LockToken": first["LockToken"]}
    refused(waf.delete_web_acl, "WAFAssociatedItemException", "associated", **gone)
    waf.associate_web_acl(WebACLArn=second["ARN"], ResourceArn=load_balancer)  # takes the first's place
    assert waf.get_web_acl_for_resource(ResourceArn=load_balancer)["WebACL"]["Name"] == "two"
    waf.delete_web_acl(**gone)
    waf.disassociate_web_acl(ResourceArn=load_balancer)
    waf.delete_web_acl(Name="two", Scope="REGIONAL", Id=second["Id"], LockToken=second["LockToken"])


def test_access_logs_need_a_bucket_that_lets_them_in(sandbox: Sandbox, load_balancer: str) -> None:
    elb, s3 = sandbox.client("elbv2"), sandbox.client("s3")
    s3.create_bucket(Bucket="access")
    values = {"enabled": "true", "bucket": "access", "prefix": "alb"}
    wanted = {
        "LoadBalancerArn": load_balancer,
        "Attributes": [{"Key": f"access_logs.s3.{key}", "Value": value} for key, value in values.items()],
    }
    change = elb.modify_load_balancer_attributes
    refused(change, "InvalidConfigurationRequest", "Access Denied for bucket: access", **wanted)

    def allow(resource: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{resource}",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        s3.put_bucket_policy(Bucket="access", Policy=json.dumps(policy))

    allow("access/other/*")
    refused(change, "InvalidConfigurationRequest", "Access Denied for bucket: access", **wanted)
    with pytest.raises(ClientError, match="Policy has invalid resource"):
        allow("another/*")
    refused(s3.put_bucket_policy, "MalformedPolicy", "valid JSON", Bucket="access", Policy="nonsense")
    allow(f"access/alb/AWSLogs/{ACCOUNT}/*")
    change(**wanted)
    key = f"alb/AWSLogs/{ACCOUNT}/ELBAccessLogTestFile"
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="access")["Contents"]] == [key]
    refused(s3.delete_bucket, "BucketNotEmpty", "not empty", Bucket="access")
    change(LoadBalancerArn=load_balancer, Attributes=[{"Key": "access_logs.s3.enabled", "Value": "false"}])


def test_a_bucket_keeps_its_settings(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="settings")
    default = {"SSEAlgorithm": "AES256"}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    s3.put_bucket_encryption(Bucket="settings", ServerSideEncryptionConfiguration=rules)
    kept = s3.get_bucket_encryption(Bucket="settings")["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert kept["ApplyServerSideEncryptionByDefault"] == default
    rule = {"ID": "old", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket="settings", LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(Bucket="settings")["Rules"] == [rule]
    s3.delete_bucket_lifecycle(Bucket="settings")
    get = s3.get_bucket_lifecycle_configuration
    refused(get, "NoSuchLifecycleConfiguration", "does not exist", Bucket="settings")


def test_budgets(sandbox: Sandbox) -> None:
    budgets = sandbox.client("budgets")
    notification = {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": 80.0,
        "ThresholdType": "PERCENTAGE",
    }
    subscriber = {"SubscriptionType": "EMAIL", "Address": "owner@example.com"}
    budget = {
        "BudgetName": "berth",
        "BudgetLimit": {"Amount": "100", "Unit": "USD"},
        "CostFilters": {"TagKeyValue": ["user:project$berth"]},
        "TimeUnit": "MONTHLY",
        "BudgetType": "COST",
    }
    create = budgets.create_budget
    bad = {**budget, "BudgetLimit": {"Amount": "-1", "Unit": "USD"}}
    refused(create, "InvalidParameterException", "positive", AccountId=ACCOUNT, Budget=bad)
    wrong = [{"Notification": notification, "Subscribers": [{**subscriber, "Address": "nobody"}]}]
    refused(
        create,
        "InvalidParameterException",
        "e-mail",
        AccountId=ACCOUNT,
        Budget=budget,
        NotificationsWithSubscribers=wrong,
    )
    create(
        AccountId=ACCOUNT,
        Budget=budget,
        NotificationsWithSubscribers=[{"Notification": notification, "Subscribers": [subscriber]}],
        ResourceTags=[{"Key": "project", "Value": "berth"}],
    )
    refused(create, "DuplicateRecordException", "already exists", AccountId=ACCOUNT, Budget=budget)
    which = {"AccountId": ACCOUNT, "BudgetName": "berth"}
    seen = budgets.describe_budget(**which)["Budget"]
    assert (seen["BudgetLimit"]["Amount"], seen["CostFilters"]) == ("100", budget["CostFilters"])
    assert seen["CostTypes"]["IncludeTax"] is True
    budgets.update_budget(
        AccountId=ACCOUNT, NewBudget={**budget, "BudgetLimit": {"Amount": "200", "Unit": "USD"}}
    )
    assert budgets.describe_budget(**which)["Budget"]["BudgetLimit"]["Amount"] == "200"
    told = budgets.describe_subscribers_for_notification(**which, Notification=notification)["Subscribers"]
    assert told == [subscriber]
    forecast = {**notification, "NotificationType": "FORECASTED"}
    budgets.create_notification(**which, Notification=forecast, Subscribers=[subscriber])
    budgets.delete_notification(**which, Notification=notification)
    left = budgets.describe_notifications_for_budget(**which)["Notifications"]
    assert [each["NotificationType"] for each in left] == ["FORECASTED"]
    tags = budgets.list_tags_for_resource(ResourceARN=f"arn:aws:budgets::{ACCOUNT}:budget/berth")
    assert tags["ResourceTags"] == [{"Key": "project", "Value": "berth"}]
    budgets.delete_budget(**which)
    refused(budgets.describe_budget, "NotFoundException", "doesn't exist", **which)


def test_quotas_are_what_was_set(own_sandbox: Sandbox) -> None:
    quotas = own_sandbox.client("service-quotas")
    codes = ("L-DB2E81BA", "L-417A185B", "L-3819A6DF", "L-7212CCBC", "L-1216C47A")

    def value(code: str) -> float:
        found: float = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
        return found

    assert all(value(code) > 0 for code in codes)
    refused(
        quotas.get_service_quota,
        "NoSuchResourceException",
        "does not exist",
        ServiceCode="ec2",
        QuotaCode="L-0",
    )
    assert admin(own_sandbox, "PUT", "faults", {"quotas": {"L-0": 1}}).status_code == 422
    assert admin(own_sandbox, "PUT", "faults", {"quotas": {codes[0]: 0}}, secret="x").status_code == 401
    assert value(codes[0]) > 0
    assert admin(own_sandbox, "PUT", "faults", {"quotas": {codes[0]: 0}}).status_code == 200
    assert (value(codes[0]), value(codes[1]) > 0) == (0.0, True)
    budget = {
        "BudgetName": "kept",
        "BudgetLimit": {"Amount": "1", "Unit": "USD"},
        "TimeUnit": "MONTHLY",
        "BudgetType": "COST",
    }
    budgets = own_sandbox.client("budgets")
    budgets.create_budget(AccountId=ACCOUNT, Budget=budget)
    before = budgets.describe_budget(AccountId=ACCOUNT, BudgetName="kept")["Budget"]
    own_sandbox.kill()
    own_sandbox.start()
    assert value(codes[0]) == 0.0
    assert budgets.describe_budget(AccountId=ACCOUNT, BudgetName="kept")["Budget"] == before
    admin(own_sandbox, "DELETE", "faults")
    assert value(codes[0]) > 0
