"""The kinds of objects on AWS that a stack makes, or that EKS, its load balancers and its CNI make for it.

They stand in the order in which they can be removed: what others need comes after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.leftovers import prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ops.leftovers.asker import Asker

Item = dict[str, Any]
"""One object: `id`, and what else is known of it: `name`, `arn`, `tags`, `vpc`, `role`, `going`, ...

`before` is what has to be done to it before it can be deleted: commands, each with what joins it to the next.
"""


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Args:
        name: in words, in the singular.
        ask: gives all of the account and region, AWS's own and those that are gone left out.
        arn: the ARN, with the item's keys and `partition`, `region` and `account` in braces.
        remove: the command that removes one, with the same in braces, each quoted for a shell but `before`.
        hourly_usd: what one costs.
    """

    name: str
    ask: Callable[[Asker], Iterator[Item]]
    arn: str
    remove: str
    hourly_usd: Callable[[Mapping[str, Any]], float | None] = prices.free


def _listed(service: str, operation: str, expression: str, **parameters: Any) -> Callable[[Asker], Any]:
    return lambda asker: asker.items(service, operation, expression, **parameters)


def _clusters(asker: Asker) -> Iterator[Item]:
    for name in asker.items("eks", "list_clusters", "clusters"):
        yield from asker.items("eks", "describe_cluster", "[cluster.{id: name, tags: tags}]", name=name)


def _node_groups(asker: Asker) -> Iterator[Item]:
    for cluster in asker.items("eks", "list_clusters", "clusters"):
        for name in asker.items("eks", "list_nodegroups", "nodegroups", clusterName=cluster):
            found = "[nodegroup.{id: nodegroupName, cluster: clusterName, arn: nodegroupArn, tags: tags}]"
            where = {"clusterName": cluster, "nodegroupName": name}
            yield from asker.items("eks", "describe_nodegroup", found, **where)


def _with_tags(service: str, items: str, arns: str, tags: str) -> Callable[[Asker], Iterator[Item]]:
    """Return a question to a load balancer service, which tells tags apart, for 20 at a time."""

    def ask(asker: Asker) -> Iterator[Item]:
        operation, expression = items.split(" ", 1)
        found = list(asker.items(service, operation, expression))
        for start in range(0, len(found), 20):
            part = {item["key"]: item for item in found[start : start + 20]}
            for told in asker.items(service, "describe_tags", tags, **{arns: list(part)}):
                part[told["key"]]["tags"] = told["tags"]
            yield from part.values()

    return ask


def _internet_gateways(asker: Asker) -> Iterator[Item]:
    expression = "InternetGateways[].{id: InternetGatewayId, vpc: Attachments[0].VpcId, tags: Tags}"
    for item in asker.items("ec2", "describe_internet_gateways", expression):
        detach = f"aws ec2 detach-internet-gateway --internet-gateway-id {item['id']} --vpc-id {item['vpc']}"
        yield {**item, "before": f"{detach} && " if item["vpc"] else ""}


def _roles(asker: Asker) -> Iterator[Item]:
    expression = (
        "RoleDetailList[?!starts_with(Path, '/aws-service-role/')].{id: RoleName, arn: Arn, tags: Tags,"
        " attached: AttachedManagedPolicies[].PolicyArn, inline: RolePolicyList[].PolicyName}"
    )
    for item in asker.items("iam", "get_account_authorization_details", expression, Filter=["Role"]):
        role = f"--role-name {item['id']}"
        parts = [f"detach-role-policy {role} --policy-arn {arn}" for arn in item["attached"] or ()]
        parts += [f"delete-role-policy {role} --policy-name {name}" for name in item["inline"] or ()]
        yield {**item, "before": "".join(f"aws iam {part} && " for part in parts)}


def _instance_profiles(asker: Asker) -> Iterator[Item]:
    expression = "InstanceProfiles[].{id: InstanceProfileName, arn: Arn, role: Roles[0].RoleName}"
    for item in asker.items("iam", "list_instance_profiles", expression):
        profile = f"--instance-profile-name {item['id']} --role-name {item['role']}"
        empty = f"aws iam remove-role-from-instance-profile {profile} && "
        yield {**item, "before": empty if item["role"] else ""}


def _oidc_providers(asker: Asker) -> Iterator[Item]:
    expression = "OpenIDConnectProviderList[].Arn"
    for arn in asker.items("iam", "list_open_id_connect_providers", expression):
        # Its own tags are the only sign of whose it is: the id in its URL says nothing.
        found = "[{url: Url, tags: Tags}]"
        for item in asker.items("iam", "get_open_id_connect_provider", found, OpenIDConnectProviderArn=arn):
            yield {**item, "id": arn.partition("/")[2], "arn": arn}


def _keys(asker: Asker) -> Iterator[Item]:
    found = (
        "[KeyMetadata][?KeyManager=='CUSTOMER'].{id: KeyId, arn: Arn, name: Description, going: DeletionDate}"
    )
    for key in asker.items("kms", "list_keys", "Keys[].KeyId"):
        yield from asker.items("kms", "describe_key", found, KeyId=key)


def _web_acls(asker: Asker) -> Iterator[Item]:
    expression = "WebACLs[].{id: Id, name: Name, arn: ARN, lock: LockToken}"
    yield from asker.items("wafv2", "list_web_acls", expression, Scope="REGIONAL")


_EC2 = "arn:{partition}:ec2:{region}:{account}:"
_EKS = "arn:{partition}:eks:{region}:{account}:"
_ELB = "arn:{partition}:elasticloadbalancing:{region}:{account}:"

KINDS = (
    Kind(
        "EKS node group",
        _node_groups,
        _EKS + "nodegroup/{cluster}/{id}",
        "aws eks delete-nodegroup --cluster-name {cluster} --nodegroup-name {id}"
        " && aws eks wait nodegroup-deleted --cluster-name {cluster} --nodegroup-name {id}",
    ),
    Kind(
        "EKS cluster",
        _clusters,
        _EKS + "cluster/{id}",
        "aws eks delete-cluster --name {id} && aws eks wait cluster-deleted --name {id}",
        prices.cluster,
    ),
    Kind(
        "Auto Scaling group",
        _listed(
            "autoscaling",
            "describe_auto_scaling_groups",
            "AutoScalingGroups[].{id: AutoScalingGroupName, arn: AutoScalingGroupARN, tags: Tags}",
        ),
        "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{id}",
        "aws autoscaling delete-auto-scaling-group --auto-scaling-group-name {id} --force-delete",
    ),
    Kind(
        "instance",
        _listed(
            "ec2",
            "describe_instances",
            "Reservations[].Instances[?State.Name!='terminated'][]"
            ".{id: InstanceId, vpc: VpcId, tags: Tags, instance_type: InstanceType}",
        ),
        _EC2 + "instance/{id}",
        "aws ec2 terminate-instances --instance-ids {id} && aws ec2 wait instance-terminated"
        " --instance-ids {id}",
        prices.unknown,
    ),
    Kind(
        "load balancer",
        _with_tags(
            "elbv2",
            "describe_load_balancers LoadBalancers[]"
            ".{key: LoadBalancerArn, id: LoadBalancerName, arn: LoadBalancerArn, vpc: VpcId}",
            "ResourceArns",
            "TagDescriptions[].{key: ResourceArn, tags: Tags}",
        ),
        _ELB + "loadbalancer/app/{id}",
        "aws elbv2 delete-load-balancer --load-balancer-arn {arn} && aws elbv2 wait load-balancers-deleted"
        " --load-balancer-arns {arn}",
        prices.load_balancer,
    ),
    Kind(
        "classic load balancer",
        _with_tags(
            "elb",
            "describe_load_balancers LoadBalancerDescriptions[]"
            ".{key: LoadBalancerName, id: LoadBalancerName, vpc: VPCId}",
            "LoadBalancerNames",
            "TagDescriptions[].{key: LoadBalancerName, tags: Tags}",
        ),
        _ELB + "loadbalancer/{id}",
        "aws elb delete-load-balancer --load-balancer-name {id}",
        prices.classic_load_balancer,
    ),
    Kind(
        "target group",
        _with_tags(
            "elbv2",
            "describe_target_groups TargetGroups[]"
            ".{key: TargetGroupArn, id: TargetGroupName, arn: TargetGroupArn, vpc: VpcId}",
            "ResourceArns",
            "TagDescriptions[].{key: ResourceArn, tags: Tags}",
        ),
        _ELB + "targetgroup/{id}",
        "aws elbv2 delete-target-group --target-group-arn {arn}",
    ),
    Kind(
        "web ACL",
        _web_acls,
        "arn:{partition}:wafv2:{region}:{account}:regional/webacl/{name}/{id}",
        "aws wafv2 delete-web-acl --scope REGIONAL --name {name} --id {id} --lock-token {lock}",
        prices.web_acl,
    ),
    Kind(
        "NAT gateway",
        _listed(
            "ec2",
            "describe_nat_gateways",
            "NatGateways[?State!='deleted'].{id: NatGatewayId, vpc: VpcId, tags: Tags}",
        ),
        _EC2 + "natgateway/{id}",
        "aws ec2 delete-nat-gateway --nat-gateway-id {id} && aws ec2 wait nat-gateway-deleted"
        " --nat-gateway-ids {id}",
        prices.nat_gateway,
    ),
    Kind(
        "VPC endpoint",
        _listed(
            "ec2",
            "describe_vpc_endpoints",
            "VpcEndpoints[?State!='deleted'].{id: VpcEndpointId, vpc: VpcId, tags: Tags,"
            " type: VpcEndpointType, subnets: SubnetIds}",
        ),
        _EC2 + "vpc-endpoint/{id}",
        "aws ec2 delete-vpc-endpoints --vpc-endpoint-ids {id}",
        prices.vpc_endpoint,
    ),
    Kind(
        "network interface",
        # Without those that go with the machine, the gateway, the endpoint or the cluster that they are of.
        _listed(
            "ec2",
            "describe_network_interfaces",
            "NetworkInterfaces[?!RequesterManaged && !(Attachment.DeleteOnTermination)]"
            ".{id: NetworkInterfaceId, vpc: VpcId, tags: TagSet, name: Description}",
        ),
        _EC2 + "network-interface/{id}",
        "aws ec2 delete-network-interface --network-interface-id {id}",
    ),
    Kind(
        "elastic IP",
        _listed("ec2", "describe_addresses", "Addresses[].{id: AllocationId, tags: Tags}"),
        _EC2 + "elastic-ip/{id}",
        "aws ec2 release-address --allocation-id {id}",
        prices.elastic_ip,
    ),
    Kind(
        "EBS volume",
        # Without those that go with their machine.
        _listed(
            "ec2",
            "describe_volumes",
            "Volumes[?!(Attachments[?DeleteOnTermination])]"
            ".{id: VolumeId, tags: Tags, type: VolumeType, gib: Size, iops: Iops,"
            " throughput: Throughput}",
        ),
        _EC2 + "volume/{id}",
        "aws ec2 delete-volume --volume-id {id}",
        prices.volume,
    ),
    Kind(
        "launch template",
        _listed(
            "ec2",
            "describe_launch_templates",
            "LaunchTemplates[].{id: LaunchTemplateId, name: LaunchTemplateName, tags: Tags}",
        ),
        _EC2 + "launch-template/{id}",
        "aws ec2 delete-launch-template --launch-template-id {id}",
    ),
    Kind(
        "flow log",
        _listed(
            "ec2",
            "describe_flow_logs",
            "FlowLogs[].{id: FlowLogId, vpc: ResourceId, tags: Tags, name: LogGroupName}",
        ),
        _EC2 + "vpc-flow-log/{id}",
        "aws ec2 delete-flow-logs --flow-log-ids {id}",
    ),
    Kind(
        "security group",
        _listed(
            "ec2",
            "describe_security_groups",
            "SecurityGroups[?GroupName!='default'].{id: GroupId, vpc: VpcId, name: GroupName, tags: Tags}",
        ),
        _EC2 + "security-group/{id}",
        "aws ec2 delete-security-group --group-id {id}",
    ),
    Kind(
        "subnet",
        _listed("ec2", "describe_subnets", "Subnets[?!DefaultForAz].{id: SubnetId, vpc: VpcId, tags: Tags}"),
        _EC2 + "subnet/{id}",
        "aws ec2 delete-subnet --subnet-id {id}",
    ),
    Kind(
        "route table",
        _listed(
            "ec2",
            "describe_route_tables",
            "RouteTables[?!(Associations[?Main])].{id: RouteTableId, vpc: VpcId, tags: Tags}",
        ),
        _EC2 + "route-table/{id}",
        "aws ec2 delete-route-table --route-table-id {id}",
    ),
    Kind(
        "internet gateway",
        _internet_gateways,
        _EC2 + "internet-gateway/{id}",
        "{before}aws ec2 delete-internet-gateway --internet-gateway-id {id}",
    ),
    Kind(
        "VPC",
        _listed("ec2", "describe_vpcs", "Vpcs[?!IsDefault].{id: VpcId, vpc: VpcId, tags: Tags}"),
        _EC2 + "vpc/{id}",
        "aws ec2 delete-vpc --vpc-id {id}",
    ),
    Kind(
        "ECR repository",
        _listed("ecr", "describe_repositories", "repositories[].{id: repositoryName, arn: repositoryArn}"),
        "arn:{partition}:ecr:{region}:{account}:repository/{id}",
        "aws ecr delete-repository --repository-name {id} --force",
        prices.unknown,
    ),
    Kind(
        "CodeBuild project",
        _listed("codebuild", "list_projects", "projects[].{id: @}"),
        "arn:{partition}:codebuild:{region}:{account}:project/{id}",
        "aws codebuild delete-project --name {id}",
    ),
    Kind(
        "S3 bucket",
        _listed("s3", "list_buckets", "Buckets[].{id: Name}"),
        "arn:{partition}:s3:::{id}",
        "aws s3 rb s3://{id} --force",
        prices.unknown,
    ),
    Kind(
        "log group",
        _listed("logs", "describe_log_groups", "logGroups[].{id: logGroupName, bytes: storedBytes}"),
        "arn:{partition}:logs:{region}:{account}:log-group:{id}",
        "aws logs delete-log-group --log-group-name {id}",
        prices.log_group,
    ),
    Kind(
        "SSM parameter",
        _listed("ssm", "describe_parameters", "Parameters[].{id: Name}"),
        "arn:{partition}:ssm:{region}:{account}:parameter{id}",
        "aws ssm delete-parameter --name {id}",
    ),
    Kind(
        "budget",
        lambda asker: asker.items(
            "budgets", "describe_budgets", "Budgets[].{id: BudgetName}", AccountId=asker.account
        ),
        "arn:{partition}:budgets::{account}:budget/{id}",
        "aws budgets delete-budget --account-id {account} --budget-name {id}",
    ),
    Kind(
        "instance profile",
        _instance_profiles,
        "arn:{partition}:iam::{account}:instance-profile/{id}",
        "{before}aws iam delete-instance-profile --instance-profile-name {id}",
    ),
    Kind(
        "IAM role",
        _roles,
        "arn:{partition}:iam::{account}:role/{id}",
        "{before}aws iam delete-role --role-name {id}",
    ),
    Kind(
        "OIDC provider",
        _oidc_providers,
        "arn:{partition}:iam::{account}:oidc-provider/{id}",
        "aws iam delete-open-id-connect-provider --open-id-connect-provider-arn {arn}",
    ),
    Kind(
        "KMS key",
        _keys,
        "arn:{partition}:kms:{region}:{account}:key/{id}",
        "aws kms schedule-key-deletion --key-id {id} --pending-window-in-days 7",
        prices.key,
    ),
)
