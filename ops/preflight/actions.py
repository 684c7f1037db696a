"""The actions of IAM that the deployer needs for each type of resource: to make, change and delete it.

Sources: the AWS provider's code of each resource, and AWS's Service Authorization Reference for the names of
actions, which differ from those of operations in S3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.graph.record import Graph

# Behind the colon: actions of the service before it.
_ACTIONS: dict[str, tuple[str, ...]] = {
    "aws:autoscaling/attachment:Attachment": (
        "autoscaling:AttachLoadBalancerTargetGroups DetachLoadBalancerTargetGroups DescribeAutoScalingGroups",
    ),
    "aws:autoscaling/tag:Tag": ("autoscaling:CreateOrUpdateTags DeleteTags DescribeTags",),
    "aws:budgets/budget:Budget": ("budgets:ModifyBudget ViewBudget",),
    "aws:cloudwatch/logGroup:LogGroup": (
        "logs:CreateLogGroup DeleteLogGroup DescribeLogGroups PutRetentionPolicy TagResource",
    ),
    "aws:codebuild/project:Project": (
        "codebuild:CreateProject UpdateProject DeleteProject BatchGetProjects",
        "iam:PassRole",
    ),
    "aws:ec2/eip:Eip": ("ec2:AllocateAddress ReleaseAddress DescribeAddresses CreateTags",),
    "aws:ec2/flowLog:FlowLog": ("ec2:CreateFlowLogs DeleteFlowLogs DescribeFlowLogs", "iam:PassRole"),
    "aws:ec2/internetGateway:InternetGateway": (
        "ec2:CreateInternetGateway AttachInternetGateway DetachInternetGateway",
        "ec2:DeleteInternetGateway DescribeInternetGateways",
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": (
        "ec2:CreateLaunchTemplate CreateLaunchTemplateVersion ModifyLaunchTemplate",
        "ec2:DeleteLaunchTemplate DescribeLaunchTemplates DescribeLaunchTemplateVersions",
        "ec2:RunInstances",
    ),
    "aws:ec2/natGateway:NatGateway": ("ec2:CreateNatGateway DeleteNatGateway DescribeNatGateways",),
    "aws:ec2/route:Route": ("ec2:CreateRoute DeleteRoute",),
    "aws:ec2/routeTable:RouteTable": ("ec2:CreateRouteTable DeleteRouteTable DescribeRouteTables",),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": (
        "ec2:AssociateRouteTable DisassociateRouteTable",
    ),
    "aws:ec2/securityGroup:SecurityGroup": (
        "ec2:CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroups RevokeSecurityGroupEgress",
    ),
    "aws:ec2/subnet:Subnet": ("ec2:CreateSubnet ModifySubnetAttribute DeleteSubnet DescribeSubnets",),
    "aws:ec2/vpc:Vpc": (
        "ec2:CreateVpc ModifyVpcAttribute DeleteVpc DescribeVpcs DescribeVpcAttribute",
        "ec2:DescribeAvailabilityZones CreateTags",
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": ("ec2:CreateVpcEndpoint DeleteVpcEndpoints DescribeVpcEndpoints",),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": ("ecr:PutLifecyclePolicy DeleteLifecyclePolicy",),
    "aws:ecr/repository:Repository": (
        "ecr:CreateRepository DeleteRepository DescribeRepositories TagResource BatchDeleteImage ListImages",
    ),
    "aws:ecr/repositoryPolicy:RepositoryPolicy": ("ecr:SetRepositoryPolicy DeleteRepositoryPolicy",),
    "aws:eks/accessEntry:AccessEntry": ("eks:CreateAccessEntry DeleteAccessEntry DescribeAccessEntry",),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": (
        "eks:AssociateAccessPolicy DisassociateAccessPolicy ListAssociatedAccessPolicies",
    ),
    "aws:eks/addon:Addon": ("eks:CreateAddon UpdateAddon DeleteAddon DescribeAddon DescribeAddonVersions",),
    "aws:eks/cluster:Cluster": (
        "eks:CreateCluster UpdateClusterConfig UpdateClusterVersion DeleteCluster",
        "eks:DescribeCluster DescribeClusterVersions TagResource",
        "iam:PassRole CreateServiceLinkedRole",
    ),
    "aws:eks/nodeGroup:NodeGroup": (
        "eks:CreateNodegroup UpdateNodegroupConfig UpdateNodegroupVersion DeleteNodegroup DescribeNodegroup",
        "iam:PassRole",
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": (
        "eks:CreatePodIdentityAssociation DeletePodIdentityAssociation DescribePodIdentityAssociation",
        "iam:PassRole",
    ),
    "aws:iam/role:Role": (
        "iam:CreateRole DeleteRole GetRole TagRole ListRolePolicies ListAttachedRolePolicies",
        "iam:ListInstanceProfilesForRole",
    ),
    "aws:iam/rolePolicy:RolePolicy": ("iam:PutRolePolicy DeleteRolePolicy GetRolePolicy",),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ("iam:AttachRolePolicy DetachRolePolicy",),
    "aws:kms/alias:Alias": ("kms:CreateAlias DeleteAlias ListAliases",),
    "aws:kms/key:Key": (
        "kms:CreateKey DescribeKey EnableKeyRotation GetKeyPolicy PutKeyPolicy",
        "kms:ScheduleKeyDeletion TagResource CreateGrant",
    ),
    "aws:lb/listener:Listener": (
        "elasticloadbalancing:CreateListener ModifyListener DeleteListener DescribeListeners",
    ),
    "aws:lb/listenerRule:ListenerRule": (
        "elasticloadbalancing:CreateRule ModifyRule DeleteRule DescribeRules",
    ),
    "aws:lb/loadBalancer:LoadBalancer": (
        "elasticloadbalancing:CreateLoadBalancer ModifyLoadBalancerAttributes DeleteLoadBalancer",
        "elasticloadbalancing:DescribeLoadBalancers AddTags",
    ),
    "aws:lb/targetGroup:TargetGroup": (
        "elasticloadbalancing:CreateTargetGroup ModifyTargetGroupAttributes DeleteTargetGroup",
        "elasticloadbalancing:DescribeTargetGroups",
    ),
    "aws:s3/bucket:Bucket": ("s3:CreateBucket DeleteBucket ListBucket PutBucketTagging",),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": (
        "s3:PutLifecycleConfiguration GetLifecycleConfiguration",
    ),
    "aws:s3/bucketObjectv2:BucketObjectv2": ("s3:PutObject GetObject DeleteObject",),
    "aws:s3/bucketPolicy:BucketPolicy": ("s3:PutBucketPolicy GetBucketPolicy DeleteBucketPolicy",),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": (
        "s3:PutBucketPublicAccessBlock GetBucketPublicAccessBlock",
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
        "s3:PutEncryptionConfiguration GetEncryptionConfiguration",
    ),
    "aws:ssm/parameter:Parameter": ("ssm:PutParameter GetParameter DeleteParameter AddTagsToResource",),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": (
        "ec2:AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress DescribeSecurityGroupRules",
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": (
        "ec2:AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress DescribeSecurityGroupRules",
    ),
    "aws:wafv2/webAcl:WebAcl": ("wafv2:CreateWebACL UpdateWebACL DeleteWebACL GetWebACL TagResource",),
    "aws:wafv2/webAclAssociation:WebAclAssociation": (
        "wafv2:AssociateWebACL DisassociateWebACL GetWebACLForResource",
        "elasticloadbalancing:SetWebACL",
    ),
    # What the stack's own resources ask AWS for.
    "pulumi-python:dynamic/image:Build": (
        "codebuild:StartBuild StopBuild BatchGetBuilds",
        "ecr:DescribeImages",
        "logs:GetLogEvents",
    ),
    "pulumi-python:dynamic/interfaces:Sweep": ("ec2:DescribeNetworkInterfaces DeleteNetworkInterface",),
}


def known(type_: str) -> bool:
    """Say whether the actions of a type of resource are known here."""
    return type_ in _ACTIONS


def needed(graph: Graph) -> list[str]:
    """Return the actions that a stack's resources need, each once, in order."""
    lines = {line for item in graph for line in _ACTIONS.get(item.type, ())}
    found: set[str] = set()
    for line in lines:
        service, _, names = line.partition(":")
        found.update(f"{service}:{name}" for name in names.split())
    return sorted(found)
