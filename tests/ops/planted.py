"""One leftover of each kind that a stack can leave, as it or EKS makes it, beside those of other stacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.runpod.conftest import REPOSITORY_ARN
from tests.sandbox_aws.support import make_network, make_role, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runpod.conftest import Platform
    from tests.sandbox_aws.support import Sandbox

ACCOUNT = "123456789012"
CLUSTER = "berth-dev-cluster-0a1b2c3"
OURS = {"project": "berth", "stack": "dev", "owner": "ml-platform"}
THEIRS = {"project": "berth", "stack": "prod", "owner": "ml-platform"}
OTHER = "secretsmanager: something"


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _specification(kind: str, tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": _pairs(tags)}]


class _Garden:
    """Plants in one account for one stack.

    Args:
        aws: the account.
        base: what the stack's names begin with.
        tags: the stack's.
        cluster: the name of its cluster.
    """

    def __init__(self, aws: Sandbox, base: str, tags: dict[str, str], cluster: str) -> None:
        self.clients: dict[str, Any] = {}
        self.aws, self.base, self.tags, self.cluster = aws, base, tags, cluster
        self.vpc, self.subnets = make_network(aws, gateway=False)
        self.made: dict[str, str] = {}

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.aws.client(service)
        return self.clients[service]

    def network(self) -> None:
        ec2 = self.client("ec2")
        ec2.create_tags(Resources=[self.vpc], Tags=_pairs(self.tags))
        self.made["VPC"] = self.vpc
        # Without tags: known by the VPC that they are in.
        self.made["subnet"], self.made["subnet of another zone"] = self.subnets
        self.made["route table"] = ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        self.made["internet gateway"] = gateway
        address = ec2.allocate_address(
            Domain="vpc", TagSpecifications=_specification("elastic-ip", self.tags)
        )["AllocationId"]
        self.made["elastic IP"] = address
        self.made["NAT gateway"] = ec2.create_nat_gateway(
            SubnetId=self.subnets[0],
            AllocationId=address,
            TagSpecifications=_specification("natgateway", self.tags),
        )["NatGateway"]["NatGatewayId"]
        self.made["VPC endpoint"] = ec2.create_vpc_endpoint(
            VpcId=self.vpc,
            ServiceName="com.amazonaws.us-east-1.s3",
            TagSpecifications=_specification("vpc-endpoint", self.tags),
        )["VpcEndpoint"]["VpcEndpointId"]

    def of_kubernetes(self) -> None:
        """What EKS, the CNI, a load balancer controller and the driver of volumes leave, without our tags."""
        ec2 = self.client("ec2")
        owned = {f"kubernetes.io/cluster/{self.cluster}": "owned"}
        self.made["security group"] = ec2.create_security_group(
            GroupName=f"eks-cluster-sg-{self.cluster}-1",
            Description="EKS created security group",
            TagSpecifications=_specification("security-group", owned),
        )["GroupId"]
        self.made["network interface"] = ec2.create_network_interface(
            SubnetId=ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])[
                "Subnets"
            ][0]["SubnetId"],
            Description="aws-K8S-i-0123456789abcdef0",
            TagSpecifications=_specification(
                "network-interface",
                {
                    "cluster.k8s.amazonaws.com/name": self.cluster,
                    "node.k8s.amazonaws.com/instance_id": "i-0123456789abcdef0",
                },
            ),
        )["NetworkInterface"]["NetworkInterfaceId"]
        self.made["EBS volume"] = ec2.create_volume(
            AvailabilityZone="us-east-1a",
            Size=100,
            VolumeType="gp3",
            TagSpecifications=_specification(
                "volume", {**owned, "kubernetes.io/created-for/pvc/name": "weights"}
            ),
        )["VolumeId"]
        elb = self.client("elb")
        name = f"classic-{self.tags['stack']}"
        elb.create_load_balancer(
            LoadBalancerName=name,
            Listeners=[{"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 30080}],
            AvailabilityZones=["us-east-1a"],
            Tags=_pairs(owned),
        )
        self.made["classic load balancer"] = name
        self.client("logs").create_log_group(logGroupName=f"/aws/eks/{self.cluster}/cluster")
        self.made["log group"] = f"/aws/eks/{self.cluster}/cluster"
        oidc = self.client("iam").create_open_id_connect_provider(
            Url=f"https://oidc.eks.us-east-1.amazonaws.com/id/{self.tags['stack'].upper()}",
            ClientIDList=["sts.amazonaws.com"],
            ThumbprintList=["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"],
            Tags=_pairs({"eks:cluster-name": self.cluster}),
        )["OpenIDConnectProviderArn"]
        self.made["OIDC provider"] = oidc.partition("/")[2]

    def cluster_and_nodes(self) -> None:
        eks = self.client("eks")
        made = eks.create_cluster(
            name=self.cluster,
            roleArn=make_role(self.aws, f"x-cluster-{self.tags['stack']}", "eks.amazonaws.com"),
            version="1.35",
            resourcesVpcConfig={"subnetIds": self.subnets},
            accessConfig={"authenticationMode": "API"},
        )["cluster"]
        eks.get_waiter("cluster_active").wait(name=self.cluster, WaiterConfig={"Delay": 1})
        self.made["EKS cluster"] = self.cluster
        made = eks.describe_cluster(name=self.cluster)["cluster"]
        self.made["security group that EKS made"] = made["resourcesVpcConfig"]["clusterSecurityGroupId"]
        self.made["EKS node group"] = f"{self.base}-gpu-0a1b2c3"
        where = {"clusterName": self.cluster, "nodegroupName": self.made["EKS node group"]}
        eks.create_nodegroup(
            **where,
            subnets=self.subnets,
            nodeRole=f"arn:aws:iam::{ACCOUNT}:role/{self.made['IAM role']}",
            scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0},
            amiType="AL2023_x86_64_STANDARD",
            instanceTypes=["m7i.large"],
        )
        eks.get_waiter("nodegroup_active").wait(**where, WaiterConfig={"Delay": 1})
        [group] = eks.describe_nodegroup(**where)["nodegroup"]["resources"]["autoScalingGroups"]
        self.made["Auto Scaling group"] = group["name"]
        made_by_eks = [{"Name": "tag:eks:nodegroup-name", "Values": [where["nodegroupName"]]}]
        [template] = self.client("ec2").describe_launch_templates(Filters=made_by_eks)["LaunchTemplates"]
        self.made["launch template that EKS made"] = template["LaunchTemplateId"]

    def machines(self) -> None:
        ec2, iam = self.client("ec2"), self.client("iam")
        template = ec2.create_launch_template(
            LaunchTemplateName=f"{self.base}-gpu",
            LaunchTemplateData={"InstanceType": "g6.xlarge"},
            TagSpecifications=_specification("launch-template", self.tags),
        )["LaunchTemplate"]["LaunchTemplateId"]
        self.made["launch template"] = template
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        self.made["instance"] = ec2.run_instances(
            ImageId=image,
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=_specification("instance", {"eks:cluster-name": self.cluster}),
        )["Instances"][0]["InstanceId"]
        make_role(self.aws, f"{self.base}-node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
        self.made["IAM role"] = f"{self.base}-node"
        iam.put_role_policy(
            RoleName=f"{self.base}-node",
            PolicyName="more",
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
                }
            ),
        )
        profile = f"eks-5cf8f730-{self.tags['stack']}"
        iam.create_instance_profile(InstanceProfileName=profile)
        iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=f"{self.base}-node")
        self.made["instance profile"] = profile

    def service(self) -> None:
        elb, waf = self.client("elbv2"), self.client("wafv2")
        subnets = [
            each["SubnetId"]
            for each in self.client("ec2").describe_subnets(
                Filters=[{"Name": "default-for-az", "Values": ["true"]}]
            )["Subnets"]
        ]
        name = f"{self.base}-lb-0a1b2c3"
        elb.create_load_balancer(Name=name, Subnets=subnets[:2], Scheme="internal", Tags=_pairs(self.tags))
        self.made["load balancer"] = name
        group = f"{self.base}-model-0a1b2c3"
        elb.create_target_group(
            Name=group, Protocol="HTTP", Port=30080, VpcId=self.vpc, Tags=_pairs(self.tags)
        )
        self.made["target group"] = group
        seen = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"}
        self.made["web ACL"] = waf.create_web_acl(
            Name=f"{self.base}-load-balancer",
            Scope="REGIONAL",
            DefaultAction={"Allow": {}},
            VisibilityConfig=seen,
        )["Summary"]["Id"]

    def account(self) -> None:
        self.client("ecr").create_repository(repositoryName=self.base)
        self.made["ECR repository"] = self.base
        bucket = f"{self.base}-bundles-{ACCOUNT}"
        self.client("s3").create_bucket(Bucket=bucket)
        self.client("s3").put_object(Bucket=bucket, Key="bundle.zip", Body=b"zip")
        self.made["S3 bucket"] = bucket
        role = make_role(self.aws, f"x-builder-{self.tags['stack']}", "codebuild.amazonaws.com")
        self.client("codebuild").create_project(
            name=self.base,
            serviceRole=role,
            source={"type": "S3", "location": f"{bucket}/bundle.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
            },
        )
        self.made["CodeBuild project"] = self.base
        parameter = f"/{self.tags['project']}/{self.tags['stack']}/image/HF_TOKEN"
        self.client("ssm").put_parameter(Name=parameter, Type="SecureString", Value="hf_x")
        self.made["SSM parameter"] = parameter
        self.client("budgets").create_budget(
            AccountId=ACCOUNT,
            Budget={
                "BudgetName": self.base,
                "BudgetType": "COST",
                "TimeUnit": "MONTHLY",
                "BudgetLimit": {"Amount": "100", "Unit": "USD"},
            },
        )
        self.made["budget"] = self.base
        key_tags = [{"TagKey": key, "TagValue": value} for key, value in self.tags.items()]
        self.made["KMS key"] = self.client("kms").create_key(
            Description=f"Secrets of the cluster of {self.base}", Tags=key_tags
        )["KeyMetadata"]["KeyId"]
        secret = self.client("secretsmanager").create_secret(
            Name=f"by-hand-{self.tags['stack']}", SecretString="x", Tags=_pairs(self.tags)
        )["ARN"]
        self.made[OTHER] = secret.split(":", 5)[5]

    def flow_log(self) -> None:
        logs = self.client("logs")
        logs.create_log_group(logGroupName=f"flows-{self.tags['stack']}")
        role = make_role(self.aws, f"flows-{self.tags['stack']}", "vpc-flow-logs.amazonaws.com")
        self.made["flow log"] = self.client("ec2").create_flow_logs(
            ResourceIds=[self.vpc],
            ResourceType="VPC",
            TrafficType="ALL",
            LogDestinationType="cloud-watch-logs",
            LogDestination=f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:flows-{self.tags['stack']}",
            DeliverLogsPermissionArn=role,
        )["FlowLogIds"][0]


def _runpod(runpod: Platform, base: str, owner: str) -> dict[str, str]:
    marker = f"{owner}/runpod/0123456789abcdef"

    def post(path: str, body: dict[str, Any]) -> str:
        answer = runpod.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    delegation = {"resource": REPOSITORY_ARN, "name": marker}
    made = {"RunPod ECR delegation": post("/registries/delegations", delegation)}
    made["RunPod endpoint"] = runpod.create(name=base, env={"BERTH_RESOURCE": marker})["id"]
    volume = {"name": f"{base} {marker}", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    made["RunPod network volume"] = post("/network-volumes", volume)
    credential = {"name": f"{marker}/1", "username": "AWS", "password": "token"}
    made["RunPod registry credential"] = post("/registries", credential)
    return made


def plant(aws: Sandbox, runpod: Platform) -> dict[str, str]:
    """Plant for the stack `dev`, and the same for `prod`; return the ids of dev's by kind."""
    made: dict[str, str] = {}
    for base, tags, cluster in (
        ("berth-prod", THEIRS, "berth-prod-cluster-0a1b2c3"),
        ("berth-dev", OURS, CLUSTER),
    ):
        garden = _Garden(aws, base, tags, cluster)
        for step in _STEPS:
            step(garden)
        if garden.tags is OURS:
            garden.cluster_and_nodes()
        made = garden.made | _runpod(runpod, base, f"berth/{tags['stack']}")
    gateway = made["NAT gateway"]

    def is_up() -> bool:
        [seen] = aws.client("ec2").describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"]
        return bool(seen["State"] == "available")

    wait_for(is_up, 30)
    return made


def remove_other(aws: Sandbox) -> None:
    """Remove what `leftovers` knows no command for."""
    aws.client("secretsmanager").delete_secret(SecretId="by-hand-dev", ForceDeleteWithoutRecovery=True)


_STEPS: tuple[Callable[[_Garden], None], ...] = (
    _Garden.network,
    _Garden.of_kubernetes,
    _Garden.machines,
    _Garden.service,
    _Garden.account,
    _Garden.flow_log,
)
KINDS = (
    "EKS node group",
    "EKS cluster",
    "Auto Scaling group",
    "instance",
    "load balancer",
    "classic load balancer",
    "target group",
    "web ACL",
    "NAT gateway",
    "VPC endpoint",
    "network interface",
    "elastic IP",
    "EBS volume",
    "launch template",
    "flow log",
    "security group",
    "subnet",
    "route table",
    "internet gateway",
    "VPC",
    "ECR repository",
    "CodeBuild project",
    "S3 bucket",
    "log group",
    "SSM parameter",
    "budget",
    "instance profile",
    "IAM role",
    "OIDC provider",
    "KMS key",
    OTHER,
    "RunPod endpoint",
    "RunPod network volume",
    "RunPod registry credential",
    "RunPod ECR delegation",
)
