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
_CONTROL_PLANE_LOGS = "aws:cloudwatch/logGroup:LogGroup[control-plane-logs]"
_KUBERNETES = "pulumi:providers:kubernetes"
_RELEASE = "kubernetes:helm.sh/v3:Release"
_IDENTITY = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
_ACCESS = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation[cluster-deployer]"
_ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
_INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_ATTACHED = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
_ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
_NOT_FOUND = "there is nothing to delete it from"
_NAMESPACE = "the namespace would take it along, out of its turn"

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
    Rule("aws:ec2/vpc:Vpc", "aws:ec2/routeTable:RouteTable", "a route table holds the VPC"),
    Rule("aws:ec2/routeTable:RouteTable", "aws:ec2/route:Route", _NOT_FOUND, own=True),
    Rule("aws:ec2/routeTable:RouteTable", _ASSOCIATION, "a route table in use cannot be deleted", own=True),
    Rule("aws:ec2/subnet:Subnet", _ASSOCIATION, _NOT_FOUND, own=True),
    Rule(
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/route:Route[internet]",
        "a route to nothing is left",
    ),
    Rule("aws:ec2/subnet:Subnet", f"{_ENDPOINT}[endpoints]", "its interfaces hold the subnet", own=True),
    Rule(_GROUP, f"{_ENDPOINT}[endpoints]", "its interfaces hold the group", own=True),
    Rule(_GROUP, "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", _NOT_FOUND, own=True),
    Rule(_GROUP, f"{_INGRESS}[from]", _NOT_FOUND, own=True),
    # Rights and what is attached
    Rule(
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "a role with policies cannot be deleted",
        own=True,
    ),
    Rule("aws:iam/role:Role", _ATTACHED, "a role with policies cannot be deleted", own=True),
    Rule(_BUCKET, "aws:s3/bucketPolicy:BucketPolicy", _NOT_FOUND, own=True),
    Rule(_BUCKET, "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", _NOT_FOUND, own=True),
    Rule(_BUCKET, "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", _NOT_FOUND, own=True),
    Rule(_BUCKET, _ENCRYPTION, _NOT_FOUND, own=True),
    Rule(
        _BUCKET, "aws:s3/bucketObjectv2:BucketObjectv2", "a bucket with objects cannot be deleted", own=True
    ),
    Rule("aws:ecr/repository:Repository", "aws:ecr/repositoryPolicy:RepositoryPolicy", _NOT_FOUND),
    Rule("aws:ecr/repository:Repository", "aws:ecr/lifecyclePolicy:LifecyclePolicy", _NOT_FOUND),
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
    Rule("aws:ec2/subnet:Subnet", _NODES, "its interfaces hold the subnet", own=True),
    Rule(
        f"{_ADDON}[eks-pod-identity-agent]",
        f"{_ADDON}[vpc-cni]",
        "the CNI has its rights from it, to delete its network interfaces",
    ),
    # Between machines and network: what the CNI leaves
    Rule(_SWEEP, _NODES, "interfaces that a machine leaves later are swept by nobody"),
    Rule(_SWEEP, f"{_ADDON}[vpc-cni]", "the CNI makes interfaces for as long as it runs"),
    Rule("aws:ec2/subnet:Subnet", _SWEEP, "a leaked interface holds the subnet"),
    Rule(_CLUSTER, _SWEEP, "a leaked interface holds the cluster's security group"),
    # The cluster
    Rule("aws:ec2/subnet:Subnet", _CLUSTER, "the control plane has interfaces there", own=True),
    Rule(_CONTROL_PLANE_LOGS, _CLUSTER, "EKS makes the group again, for ever"),
    Rule(_CONTROL_PLANE_LOGS, "aws:ec2/vpc:Vpc", "the last lines come after the cluster, and make it again"),
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
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "an association without its entry cannot be deleted",
        own=True,
    ),
    Rule(f"{_ATTACHED}[cloudwatch]", f"{_ADDON}[cloudwatch]", "the last logs are refused"),
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
    Rule("kubernetes:core/v1:ServiceAccount[model]", f"{_PODS}[model]", "a pod that restarts is refused"),
    Rule("kubernetes:scheduling.k8s.io/v1:", f"{_PODS}[model]", "a pod that restarts is refused"),
    Rule("kubernetes:networking.k8s.io/v1:", f"{_PODS}[model]", "its pods stand open meanwhile"),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:core/v1:Secret[model]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:core/v1:Service[model-service]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:core/v1:ServiceAccount[model]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:networking.k8s.io/v1:", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[model]", "kubernetes:policy/v1:", _NAMESPACE),
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
    Rule(f"{_INGRESS}[load-balancer]", _BALANCER, "requests that are under way are cut off"),
    Rule(
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule[load-balancer]",
        _BALANCER,
        "requests that are under way are cut off",
    ),
    Rule("aws:ec2/route:Route[load-balancer]", _BALANCER, "answers have no way out"),
    Rule(f"{_ASSOCIATION}[load-balancer]", _BALANCER, "answers have no way out"),
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
    Rule("kubernetes:core/v1:Namespace[scaling]", f"{_RELEASE}[keda]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[monitoring]", f"{_RELEASE}[prometheus]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[monitoring]", "kubernetes:core/v1:ConfigMap", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[monitoring]", "kubernetes:core/v1:Secret[monitoring]", _NAMESPACE),
    Rule("kubernetes:core/v1:Namespace[monitoring]", "kubernetes:apps/v1:DaemonSet[monitoring]", _NAMESPACE),
    Rule(
        "kubernetes:core/v1:ConfigMap[gpu-exporter]",
        "kubernetes:apps/v1:DaemonSet[gpu-exporter]",
        "it cannot restart",
    ),
    Rule(
        "kubernetes:rbac.authorization.k8s.io/v1:",
        f"{_PODS}[cluster-autoscaler]",
        "the autoscaler loses its rights while it works",
    ),
    Rule(
        "aws:iam/rolePolicy:RolePolicy[cluster-autoscaler]",
        f"{_IDENTITY}[cluster-autoscaler]",
        "the autoscaler loses its rights while it works",
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
    Rule("aws:cloudwatch/logGroup:LogGroup[image]", _BUILD, "CodeBuild makes the group again"),
    Rule("aws:cloudwatch/logGroup:LogGroup[weights]", _COPY, "CodeBuild makes the group again"),
    Rule("aws:iam/rolePolicy:RolePolicy[image-builder]", _BUILD, "a build that runs loses its rights"),
    Rule("aws:iam/rolePolicy:RolePolicy[weights-builder]", _COPY, "a copy that runs loses its rights"),
    Rule(
        "pulumi-python:dynamic/runpod:EcrDelegation", _RUNPOD, "a worker that starts may not pull its image"
    ),
    # Flow logs
    Rule("aws:cloudwatch/logGroup:LogGroup[flow]", "aws:ec2/flowLog:FlowLog", "AWS makes the group again"),
    Rule("aws:iam/rolePolicy:RolePolicy[flow]", "aws:ec2/flowLog:FlowLog", "the last lines are refused"),
)

UNGUARDED: dict[str, frozenset[str]] = {
    "What it has must be there before it is made; while all goes, it asks for none of it.": frozenset(
        {
            "Addon -> Addon",
            "Addon -> Sweep",
            "Deployment -> Build",
            "Deployment -> Copy",
            "Endpoint -> Build",
            "LoadBalancer -> Route",
            "NatGateway -> Route",
            "NetworkPolicy -> Namespace",
            "Release -> Secret",
            "Role -> Cluster",
            "ScaledObject -> Release",
            "kubernetes -> AccessPolicyAssociation",
        }
    ),
    "A bucket is closed before anything comes into it; a rule has it go last.": frozenset(
        {
            "BucketObjectv2 -> BucketLifecycleConfiguration",
            "BucketObjectv2 -> BucketPublicAccessBlock",
            "BucketObjectv2 -> BucketServerSideEncryptionConfiguration",
            "BucketPolicy -> BucketLifecycleConfiguration",
            "BucketPolicy -> BucketPublicAccessBlock",
            "BucketPolicy -> BucketServerSideEncryptionConfiguration",
            "Project -> BucketLifecycleConfiguration",
            "Project -> BucketPublicAccessBlock",
            "Project -> BucketServerSideEncryptionConfiguration",
        }
    ),
    "A policy or binding that names what is gone is a line of text.": frozenset(
        {
            "ClusterRoleBinding -> ServiceAccount",
            "RoleBinding -> ServiceAccount",
            "RolePolicy -> Bucket",
            "RolePolicy -> LogGroup",
            "RolePolicy -> Repository",
        }
    ),
    "A build's own edges hold what it uses; its project has them for the first build.": frozenset(
        {
            "Project -> BucketObjectv2",
            "Project -> RolePolicy",
        }
    ),
    "The order of making; on the way down the pods' own edges are what counts.": frozenset(
        {
            "ClusterRole -> Addon",
            "ClusterRole -> Tag",
            "DaemonSet -> NodeGroup",
            "Namespace -> Addon",
            "Namespace -> DaemonSet",
            "Namespace -> Deployment",
            "PriorityClass -> DaemonSet",
            "PriorityClass -> Deployment",
            "Role -> Addon",
            "Role -> Tag",
            "ServiceAccount -> Addon",
            "ServiceAccount -> Tag",
        }
    ),
    "AWS takes a gateway endpoint's routes out of a route table that goes.": frozenset(
        {
            "VpcEndpoint -> RouteTable",
        }
    ),
}
"""Why edges that no rule needs may go: reason -> kinds of both ends."""

REDUNDANT: dict[str, str] = {
    "Addon": "DaemonSet Deployment Namespace NodeGroup PriorityClass Release",
    "Bucket": "BucketObjectv2 BucketPolicy Copy Deployment LoadBalancer Project",
    "BucketLifecycleConfiguration": "Copy LoadBalancer",
    "BucketObjectv2": "Build",
    "BucketPublicAccessBlock": "Copy LoadBalancer",
    "BucketServerSideEncryptionConfiguration": "Copy LoadBalancer",
    "Cluster": (
        "AccessPolicyAssociation Addon Deployment NodeGroup PodIdentityAssociation RolePolicy kubernetes"
    ),
    "InternetGateway": "NatGateway",
    "LogGroup": "Cluster FlowLog Project",
    "Namespace": "DaemonSet Deployment PodMonitor PrometheusRule Release",
    "NodeGroup": "ClusterRole DaemonSet Deployment Namespace PriorityClass Release Role ServiceAccount",
    "Repository": "Build Deployment EcrDelegation Endpoint Project",
    "Role": "Addon Cluster NodeGroup PodIdentityAssociation",
    "RolePolicy": "Build Copy",
    "Route": "LoadBalancer NodeGroup",
    "SecurityGroup": "LoadBalancer",
    "Subnet": "LoadBalancer NodeGroup Sweep",
    "Sweep": "Addon NodeGroup",
    "Tag": "Deployment",
    "Vpc": "VpcEndpoint",
    "kubernetes": (
        "ClusterRoleBinding ConfigMap DaemonSet Deployment Namespace NetworkPolicy PodDisruptionBudget "
        "PodMonitor PriorityClass PrometheusRule Release RoleBinding ScaledObject Secret Service "
        "ServiceAccount"
    ),
}
"""Edges that may go, since another path says the same: what outlives -> all that say so twice."""
