"""What must outlive what when a stack is destroyed, each with what happens when it does not."""

from __future__ import annotations

from tests.infra.destroy_order import Rule

_NODES = "aws:eks/nodeGroup:NodeGroup"
_CLUSTER = "aws:eks/cluster:Cluster"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_SWEEP = "pulumi-python:dynamic/interfaces:Sweep"
_BUILD = "pulumi-python:dynamic/image:Build"
_COPY = "pulumi-python:dynamic/weights:Copy"
_ADDON = "aws:eks/addon:Addon"
_PODS = "kubernetes:apps/v1:Deployment"
_RUNPOD = "pulumi-python:dynamic/runpod:Endpoint"
_TARGETS = "aws:lb/targetGroup:TargetGroup"
_BUCKET = "aws:s3/bucket:Bucket"
_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_KUBERNETES = "pulumi:providers:kubernetes"
_RELEASE = "kubernetes:helm.sh/v3:Release"
_IDENTITY = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
_ACCESS = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation[cluster-deployer]"

RULES: tuple[Rule, ...] = (
    # The network
    Rule("aws:ec2/vpc:Vpc", "aws:ec2/subnet:Subnet", "a VPC with subnets cannot be deleted"),
    Rule("aws:ec2/vpc:Vpc", _GROUP, "a VPC with security groups cannot be deleted"),
    Rule("aws:ec2/vpc:Vpc", "aws:ec2/internetGateway:InternetGateway", "an attached gateway holds the VPC"),
    Rule("aws:ec2/vpc:Vpc", "aws:ec2/vpcEndpoint:VpcEndpoint", "an endpoint holds the VPC"),
    Rule(
        "aws:ec2/subnet:Subnet", "aws:ec2/natGateway:NatGateway", "its interface holds the subnet", own=True
    ),
    Rule(
        "aws:ec2/internetGateway:InternetGateway", "aws:ec2/natGateway:NatGateway", "mapped addresses hold it"
    ),
    Rule("aws:ec2/internetGateway:InternetGateway", "aws:ec2/eip:Eip", "mapped addresses hold the gateway"),
    Rule(
        "aws:ec2/eip:Eip", "aws:ec2/natGateway:NatGateway", "an address in use cannot be released", own=True
    ),
    Rule("aws:ec2/natGateway:NatGateway", "aws:ec2/route:Route[nat]", "a route to nothing is left", own=True),
    # Machines: what they need until they are gone
    Rule("aws:ec2/route:Route", _NODES, "machines that drain have no way out"),
    Rule("aws:ec2/routeTableAssociation:RouteTableAssociation", _NODES, "machines have no way out"),
    Rule("aws:ec2/vpcEndpoint:VpcEndpoint", _NODES, "machines pull and log through it"),
    Rule("aws:ec2/natGateway:NatGateway", _NODES, "machines have no way out"),
    Rule("aws:ec2/internetGateway:InternetGateway", _NODES, "machines have no way out"),
    Rule("aws:iam/role:Role[nodes-role]", _NODES, "machines lose their rights before they are gone"),
    Rule(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment[nodes-role]",
        _NODES,
        "machines lose their rights before they are gone",
    ),
    Rule("aws:ec2/launchTemplate:LaunchTemplate", _NODES, "a template in use cannot be deleted", own=True),
    Rule(_CLUSTER, _NODES, "a cluster with node groups cannot be deleted"),
    Rule(f"{_ADDON}[node-addons]", _NODES, "without its CNI a machine leaves network interfaces"),
    Rule(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment[vpc-cni]",
        _NODES,
        "without rights the CNI cannot delete its network interfaces",
    ),
    Rule("aws:iam/rolePolicyAttachment:RolePolicyAttachment[vpc-cni]", f"{_ADDON}[vpc-cni]", "the CNI fails"),
    # Between machines and network: what the CNI leaves
    Rule(_SWEEP, _NODES, "interfaces that a machine leaves later are swept by nobody"),
    Rule(_SWEEP, f"{_ADDON}[vpc-cni]", "the CNI makes interfaces for as long as it runs"),
    Rule("aws:ec2/subnet:Subnet", _SWEEP, "a leaked interface holds the subnet"),
    Rule(_CLUSTER, _SWEEP, "a leaked interface holds the cluster's security group"),
    # The cluster
    Rule("aws:ec2/subnet:Subnet", _CLUSTER, "the control plane has interfaces there", own=True),
    Rule("aws:cloudwatch/logGroup:LogGroup[cluster]", _CLUSTER, "EKS makes the group again, for ever"),
    Rule("aws:kms/key:Key", _CLUSTER, "the control plane cannot read its Secrets"),
    Rule("aws:iam/role:Role[cluster-role]", _CLUSTER, "EKS cannot delete its interfaces"),
    Rule(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment[cluster-role]",
        _CLUSTER,
        "EKS cannot delete its interfaces",
    ),
    Rule(_CLUSTER, _ADDON, "there is nothing to delete it from"),
    Rule(_CLUSTER, "aws:eks/accessEntry:AccessEntry", "there is nothing to delete it from"),
    Rule(_CLUSTER, _IDENTITY, "there is nothing to delete it from"),
    Rule(
        "aws:eks/accessEntry:AccessEntry[cluster-deployer]",
        _ACCESS,
        "an association without its entry cannot be deleted",
    ),
    Rule(f"{_NODES}[nodes-system]", f"{_ADDON}[cluster-addons]", "its pods would hang"),
    # What is in the cluster
    Rule(_KUBERNETES, "kubernetes:", "nobody could delete it"),
    Rule(_ACCESS, "kubernetes:", "the deployer may not delete it any more"),
    Rule(_ACCESS, _KUBERNETES, "the deployer may not delete what the provider made"),
    Rule(_CLUSTER, "kubernetes:", "there is nothing to delete it from"),
    Rule(_NODES, "kubernetes:apps/v1:Deployment[model]", "pods are killed, and their requests with them"),
    Rule(f"{_ADDON}[cluster-addons-coredns]", "kubernetes:apps/v1:Deployment[model]", "pods lose their DNS"),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:apps/v1:Deployment[model]", "it hangs in it"),
    Rule("kubernetes:core/v1:Secret[model]", "kubernetes:apps/v1:Deployment[model]", "pods cannot restart"),
    Rule(
        "kubernetes:apps/v1:DaemonSet[device-plugin]", "kubernetes:apps/v1:Deployment[model]", "GPUs are gone"
    ),
    # The load balancer
    Rule("aws:ec2/subnet:Subnet", _BALANCER, "its interfaces hold the subnet", own=True),
    Rule(f"{_GROUP}[load-balancer]", _BALANCER, "its interfaces hold the group"),
    Rule("aws:ec2/internetGateway:InternetGateway", _BALANCER, "its addresses hold the gateway"),
    Rule(
        _CLUSTER,
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule[into-nodes]",
        "the rule is in the cluster's group, which EKS cannot delete while another names it",
    ),
    Rule(
        f"{_GROUP}[load-balancer]",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule[into-nodes]",
        "a group that another names cannot be deleted",
    ),
    Rule(_BALANCER, "aws:lb/listener:Listener", "there is nothing to delete it from"),
    Rule(
        "aws:lb/listener:Listener",
        "aws:lb/listenerRule:ListenerRule",
        "there is nothing to delete it from",
        own=True,
    ),
    Rule(_TARGETS, "aws:lb/listenerRule:ListenerRule", "a target group in use cannot be deleted"),
    Rule(_TARGETS, "aws:autoscaling/attachment:Attachment", "a detached group is not found"),
    Rule(f"{_NODES}[nodes-gpu]", "aws:autoscaling/attachment:Attachment", "the group is not found", own=True),
    Rule(_BALANCER, "aws:wafv2/webAclAssociation:WebAclAssociation", "there is nothing to take it from"),
    Rule("aws:wafv2/webAcl:WebAcl", "aws:wafv2/webAclAssociation:WebAclAssociation", "an ACL in use stays"),
    Rule(f"{_BUCKET}[load-balancer]", _BALANCER, "the last logs come into a bucket that is gone"),
    Rule("aws:s3/bucketPolicy:BucketPolicy[load-balancer]", _BALANCER, "the last logs are refused"),
    # Scaling and monitoring
    Rule(_NODES, f"{_PODS}[cluster-autoscaler]", "the autoscaler starts machines again"),
    Rule(_NODES, "aws:autoscaling/tag:Tag", "the group is not found", own=True),
    Rule(
        f"{_IDENTITY}[cluster-autoscaler]",
        f"{_PODS}[cluster-autoscaler]",
        "the autoscaler loses its rights while it works",
    ),
    Rule(
        f"{_RELEASE}[keda]",
        "kubernetes:keda.sh/v1alpha1:ScaledObject",
        "a finalizer waits for KEDA, for ever",
    ),
    Rule(f"{_RELEASE}[prometheus]", "kubernetes:monitoring.coreos.com/v1:PodMonitor", "its kind is gone"),
    Rule(f"{_RELEASE}[prometheus]", "kubernetes:monitoring.coreos.com/v1:PrometheusRule", "its kind is gone"),
    Rule(f"{_NODES}[nodes-system]", _RELEASE, "its clean-up has nowhere to run"),
    Rule(
        "kubernetes:apps/v1:Deployment[model]",
        "kubernetes:keda.sh/v1alpha1:ScaledObject",
        "it scales nothing",
    ),
    # Image and weights
    Rule("aws:ecr/repository:Repository", _PODS + "[model]", "a pod that restarts finds no image"),
    Rule("aws:ecr/repository:Repository", _RUNPOD, "a worker that starts finds no image"),
    Rule("aws:ecr/repository:Repository", _BUILD, "there is nowhere to push"),
    Rule(
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "pulumi-python:dynamic/runpod:EcrDelegation",
        "RunPod checks a right that it has lost",
    ),
    Rule("aws:codebuild/project:Project[image]", _BUILD, "a build that runs cannot be stopped"),
    Rule("aws:s3/bucketObjectv2:BucketObjectv2", _BUILD, "a build loses its source"),
    Rule("aws:codebuild/project:Project[weights]", _COPY, "a copy that runs cannot be stopped"),
    Rule(f"{_BUCKET}[weights]", _COPY, "there is nowhere to copy to"),
    Rule(f"{_BUCKET}[weights]", f"{_PODS}[model]", "a pod that restarts finds no weights"),
    Rule(f"{_IDENTITY}[weights]", f"{_PODS}[model]", "a pod that restarts may not read its weights"),
    Rule("aws:iam/rolePolicy:RolePolicy[weights-role]", f"{_IDENTITY}[weights]", "it gives no rights"),
    # Flow logs
    Rule("aws:cloudwatch/logGroup:LogGroup[flow]", "aws:ec2/flowLog:FlowLog", "AWS makes the group again"),
)

UNGUARDED: frozenset[str] = frozenset()
"""Edges on the way of a rule that no rule needs: kinds of both ends."""

REDUNDANT: frozenset[str] = frozenset()
"""Edges that may go, since another path says the same: kinds of both ends."""
