"""What AWS refuses, the sandbox refuses: with AWS's code and words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox_aws.support import Sandbox, make_network, make_role, wait_for


def refused(call: Any, code: str, words: str, **arguments: Any) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code


@pytest.fixture
def ec2(sandbox: Sandbox) -> Any:
    return sandbox.client("ec2")


def nat_in(ec2: Any, subnet: str) -> tuple[str, str]:
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=allocation)["NatGateway"]
    assert gateway["State"] == "pending"
    ec2.get_waiter("nat_gateway_available").wait(
        NatGatewayIds=[gateway["NatGatewayId"]], WaiterConfig={"Delay": 1}
    )
    return gateway["NatGatewayId"], allocation


def nat_state(ec2: Any, gateway: str) -> str:
    state: str = ec2.describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"][0]["State"]
    return state


def test_a_network_comes_down_in_order_only(sandbox: Sandbox, ec2: Any) -> None:
    vpc, subnets = make_network(sandbox)
    gateway = ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}])[
        "InternetGateways"
    ][0]["InternetGatewayId"]
    nat, allocation = nat_in(ec2, subnets[0])
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    association = ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[1])["AssociationId"]
    endpoint = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", RouteTableIds=[table]
    )["VpcEndpoint"]["VpcEndpointId"]

    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    refused(ec2.release_address, "InvalidIPAddress.InUse", "in use", AllocationId=allocation)
    refused(
        ec2.detach_internet_gateway,
        "DependencyViolation",
        f"Network {vpc} has some mapped public address",
        InternetGatewayId=gateway,
        VpcId=vpc,
    )
    refused(ec2.delete_internet_gateway, "DependencyViolation", "has dependencies", InternetGatewayId=gateway)
    refused(ec2.delete_route_table, "DependencyViolation", "has dependencies", RouteTableId=table)

    ec2.delete_nat_gateway(NatGatewayId=nat)
    assert nat_state(ec2, nat) == "deleting"
    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    wait_for(lambda: nat_state(ec2, nat) == "deleted")
    ec2.release_address(AllocationId=allocation)
    for subnet in subnets[:1]:
        ec2.delete_subnet(SubnetId=subnet)
    refused(ec2.delete_vpc, "DependencyViolation", "has dependencies", VpcId=vpc)
    ec2.delete_subnet(SubnetId=subnets[1])  # takes its association along
    tables = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]
    assert association not in str(tables["Associations"])
    refused(ec2.delete_vpc, "DependencyViolation", "has dependencies", VpcId=vpc)
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    ec2.delete_route_table(RouteTableId=table)
    refused(ec2.delete_vpc, "DependencyViolation", "has dependencies", VpcId=vpc)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.delete_vpc(VpcId=vpc)


def test_security_group_in_use_stays(sandbox: Sandbox, ec2: Any) -> None:
    vpc, subnets = make_network(sandbox)
    used, other = (
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("used", "other")
    )
    rule = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": used}]}
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])
    refused(
        ec2.delete_security_group,
        "DependencyViolation",
        f"resource {used} has a dependent object",
        GroupId=used,
    )
    ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=[rule])
    interface = ec2.create_network_interface(SubnetId=subnets[0], Groups=[used])["NetworkInterface"]
    refused(ec2.delete_security_group, "DependencyViolation", "dependent object", GroupId=used)
    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
    refused(ec2.delete_vpc, "DependencyViolation", "has dependencies", VpcId=vpc)
    ec2.delete_security_group(GroupId=used)
    default = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"][0]["GroupId"]
    refused(ec2.delete_security_group, "CannotDelete", "cannot be deleted by a user", GroupId=default)


def test_instance_holds_its_subnet_until_it_ends(sandbox: Sandbox, ec2: Any) -> None:
    _, subnets = make_network(sandbox)
    run = {"ImageId": "ami-0abcdef1234567890", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    instance = ec2.run_instances(**run, SubnetId=subnets[0])["Instances"][0]
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    refused(
        ec2.delete_network_interface,
        "InvalidParameterValue",
        "currently in use",
        NetworkInterfaceId=interface,
    )
    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    ec2.delete_subnet(SubnetId=subnets[0])


def test_load_balancer_holds_its_network(sandbox: Sandbox, ec2: Any) -> None:
    elb = sandbox.client("elbv2")
    vpc, subnets = make_network(sandbox)
    group = ec2.create_security_group(GroupName="alb", Description="alb", VpcId=vpc)["GroupId"]
    create = elb.create_load_balancer
    refused(create, "ValidationError", "two different Availability Zones", Name="x", Subnets=subnets[:1])
    refused(create, "SubnetNotFound", "does not exist", Name="x", Subnets=["subnet-0", subnets[0]])
    refused(
        create,
        "InvalidConfigurationRequest",
        "security groups",
        Name="x",
        Subnets=subnets,
        SecurityGroups=["sg-0"],
    )
    _, unconnected = make_network(sandbox, gateway=False)
    refused(create, "InvalidSubnet", "has no internet gateway", Name="x", Subnets=unconnected)
    arn = create(Name="x", Subnets=subnets, SecurityGroups=[group])["LoadBalancers"][0]["LoadBalancerArn"]
    refused(create, "DuplicateLoadBalancerName", "same name", Name="x", Subnets=subnets[::-1])
    refused(ec2.delete_subnet, "DependencyViolation", "has dependencies", SubnetId=subnets[0])
    refused(ec2.delete_security_group, "DependencyViolation", "dependent object", GroupId=group)
    protect = [{"Key": "deletion_protection.enabled", "Value": "true"}]
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=protect)
    refused(elb.delete_load_balancer, "OperationNotPermitted", "deletion protection", LoadBalancerArn=arn)
    protect[0]["Value"] = "false"
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=protect)
    elb.delete_load_balancer(LoadBalancerArn=arn)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnets[0])


def test_a_target_group_belongs_to_one_load_balancer(sandbox: Sandbox) -> None:
    elb = sandbox.client("elbv2")
    vpc, subnets = make_network(sandbox)
    first, second = (
        elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        for name in ("one", "two")
    )
    group = elb.create_target_group(Name="shared", Protocol="HTTP", Port=8000, VpcId=vpc, TargetType="ip")[
        "TargetGroups"
    ][0]["TargetGroupArn"]
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    weighted = [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": group}]}}]
    fixed = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    path = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/v1/*"]}}]

    def listen(balancer: str, port: int, actions: list[dict[str, Any]]) -> str:
        arn: str = elb.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=actions
        )["Listeners"][0]["ListenerArn"]
        return arn

    # The same load balancer may forward to it from several places.
    listen(first, 8000, forward)
    other = listen(first, 8001, fixed)
    rule = elb.create_rule(ListenerArn=other, Priority=1, Conditions=path, Actions=weighted)["Rules"][0]
    elb.modify_rule(RuleArn=rule["RuleArn"], Actions=forward)
    elb.modify_listener(ListenerArn=other, DefaultActions=forward)

    listener = listen(second, 8000, fixed)
    fixed_rule = elb.create_rule(ListenerArn=listener, Priority=1, Conditions=path, Actions=fixed)["Rules"][0]
    limit = ("TargetGroupAssociationLimit", f"associated with more than one load balancer: {group}")
    refused(
        elb.create_listener,
        *limit,
        LoadBalancerArn=second,
        Protocol="HTTP",
        Port=8001,
        DefaultActions=forward,
    )
    refused(elb.modify_listener, *limit, ListenerArn=listener, DefaultActions=weighted)
    refused(elb.create_rule, *limit, ListenerArn=listener, Priority=2, Conditions=path, Actions=weighted)
    refused(elb.modify_rule, *limit, RuleArn=fixed_rule["RuleArn"], Actions=forward)

    elb.delete_load_balancer(LoadBalancerArn=first)
    elb.modify_rule(RuleArn=fixed_rule["RuleArn"], Actions=forward)
    elb.delete_load_balancer(LoadBalancerArn=second)
    elb.delete_target_group(TargetGroupArn=group)


def test_role_goes_last(sandbox: Sandbox) -> None:
    iam = sandbox.client("iam")
    make_role(sandbox, "busy", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
    policy = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    )
    iam.put_role_policy(RoleName="busy", PolicyName="inline", PolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName="busy")
    iam.add_role_to_instance_profile(InstanceProfileName="busy", RoleName="busy")
    refused(iam.delete_role, "DeleteConflict", "remove roles from instance profile", RoleName="busy")
    iam.remove_role_from_instance_profile(InstanceProfileName="busy", RoleName="busy")
    refused(iam.delete_role, "DeleteConflict", "must detach all policies", RoleName="busy")
    iam.detach_role_policy(RoleName="busy", PolicyArn="arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy")
    refused(iam.delete_role, "DeleteConflict", "must delete policies first", RoleName="busy")
    iam.delete_role_policy(RoleName="busy", PolicyName="inline")
    own = iam.create_policy(PolicyName="own", PolicyDocument=policy)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="busy", PolicyArn=own)
    refused(iam.delete_policy, "DeleteConflict", "attached to entities", PolicyArn=own)
    iam.detach_role_policy(RoleName="busy", PolicyArn=own)
    iam.delete_policy(PolicyArn=own)
    iam.delete_role(RoleName="busy")


def test_full_bucket_stays(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="full")
    s3.put_object(Bucket="full", Key="a b/ü.txt", Body=b"x")
    refused(s3.delete_bucket, "BucketNotEmpty", "not empty", Bucket="full")
    s3.delete_object(Bucket="full", Key="a b/ü.txt")
    s3.delete_bucket(Bucket="full")


def test_auto_scaling_group_with_instances_stays(sandbox: Sandbox, ec2: Any) -> None:
    autoscaling = sandbox.client("autoscaling")
    _, subnets = make_network(sandbox)
    ec2.create_launch_template(
        LaunchTemplateName="asg",
        LaunchTemplateData={"ImageId": "ami-0abcdef1234567890", "InstanceType": "t3.micro"},
    )
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="asg",
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=4,
        LaunchTemplate={"LaunchTemplateName": "asg", "Version": "$Latest"},
        VPCZoneIdentifier=",".join(subnets),
    )
    group = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["asg"])["AutoScalingGroups"][0]
    zones = [each["AvailabilityZone"] for each in group["Instances"]]
    assert sorted(zones) == ["us-east-1a", "us-east-1a", "us-east-1b", "us-east-1b"]
    refused(
        autoscaling.delete_auto_scaling_group,
        "ResourceInUse",
        "still in the group",
        AutoScalingGroupName="asg",
    )
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="asg", DesiredCapacity=0)
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName="asg")
    ec2.delete_launch_template(LaunchTemplateName="asg")


@pytest.mark.parametrize("cidr", ["10.0.0.0/33", "10.0.0/16", "nonsense"])
def test_bad_cidr_is_refused(ec2: Any, cidr: str) -> None:
    refused(ec2.create_vpc, "InvalidParameterValue", "not a valid CIDR block", CidrBlock=cidr)


def test_nat_gateway_needs_a_way_out(sandbox: Sandbox, ec2: Any) -> None:
    _, subnets = make_network(sandbox, gateway=False)
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    create = ec2.create_nat_gateway
    refused(
        create, "Gateway.NotAttached", "no Internet gateway", SubnetId=subnets[0], AllocationId=allocation
    )
    refused(create, "MissingParameter", "AllocationId", SubnetId=subnets[0])
    ec2.release_address(AllocationId=allocation)
