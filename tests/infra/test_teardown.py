"""The order of destruction, which edges of the graph carry: what must outlive what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

# Each of the left goes only when all of the right are gone.
_OUTLIVES = [
    ("aws:ec2/vpc:Vpc", "aws:ec2/subnet:Subnet"),
    ("aws:ec2/subnet:Subnet", "aws:eks/cluster:Cluster"),
    ("aws:ec2/subnet:Subnet", "aws:lb/loadBalancer:LoadBalancer"),
    ("aws:ec2/route:Route", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:ec2/routeTableAssociation:RouteTableAssociation", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:ec2/vpcEndpoint:VpcEndpoint", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:ec2/internetGateway:InternetGateway", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:ec2/internetGateway:InternetGateway", "aws:lb/loadBalancer:LoadBalancer"),
    ("aws:eks/cluster:Cluster", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:eks/cluster:Cluster", "aws:eks/addon:Addon"),
    ("aws:eks/cluster:Cluster", "aws:eks/accessEntry:AccessEntry"),
    (
        "aws:eks/cluster:Cluster",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule[into-nodes]",
    ),
    ("aws:iam/role:Role[nodes-role]", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:iam/rolePolicyAttachment:RolePolicyAttachment[nodes-role]", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:iam/rolePolicyAttachment:RolePolicyAttachment[cluster-role]", "aws:eks/cluster:Cluster"),
    ("aws:cloudwatch/logGroup:LogGroup[cluster]", "aws:eks/cluster:Cluster"),
    ("aws:eks/addon:Addon[node-addons]", "aws:eks/nodeGroup:NodeGroup"),
    ("aws:eks/nodeGroup:NodeGroup[nodes-system]", "aws:eks/addon:Addon[coredns]"),
    ("aws:eks/nodeGroup:NodeGroup", "kubernetes:"),
    ("aws:eks/addon:Addon", "kubernetes:"),
    ("aws:eks/accessPolicyAssociation:AccessPolicyAssociation[deployer]", "kubernetes:"),
    ("aws:eks/accessPolicyAssociation:AccessPolicyAssociation[deployer]", "pulumi:providers:kubernetes"),
    ("kubernetes:core/v1:Namespace", "kubernetes:apps/v1:Deployment"),
    ("aws:eks/nodeGroup:NodeGroup[nodes-gpu]", "aws:autoscaling/attachment:Attachment"),
    ("aws:lb/targetGroup:TargetGroup", "aws:autoscaling/attachment:Attachment"),
    ("aws:lb/targetGroup:TargetGroup", "aws:lb/listenerRule:ListenerRule"),
    ("aws:ec2/securityGroup:SecurityGroup", "aws:lb/loadBalancer:LoadBalancer"),
    ("aws:ecr/repository:Repository", "kubernetes:apps/v1:Deployment"),
    ("aws:ecr/repository:Repository", "pulumi-python:dynamic/runpod:Endpoint"),
    ("aws:ecr/repositoryPolicy:RepositoryPolicy", "pulumi-python:dynamic/runpod:EcrDelegation"),
    ("aws:codebuild/project:Project", "pulumi-python:dynamic/image:Build"),
    ("aws:iam/rolePolicy:RolePolicy[image-builder]", "pulumi-python:dynamic/image:Build"),
    ("aws:s3/bucketObjectv2:BucketObjectv2", "pulumi-python:dynamic/image:Build"),
]


def _select(graph: Graph, what: str) -> list[Recorded]:
    type_, _, name = what.rstrip("]").partition("[")
    found = [
        item
        for item in graph
        if (item.type.startswith(type_) if type_.endswith(":") else item.type == type_) and name in item.name
    ]
    assert found, f"nothing is {what}"
    return found


@pytest.mark.parametrize(("survivor", "goes_first"), _OUTLIVES)
def test_it_outlives(updated: Graph, survivor: str, goes_first: str) -> None:
    for first in _select(updated, goes_first):
        needed = updated.needs(first.urn)
        for last in _select(updated, survivor):
            assert last.urn in needed, f"{last.name} may be deleted before {first.name}"


def test_a_nat_gateway_outlives_the_machines_behind_it(updated: Graph, stack: str) -> None:
    gateways = [item.urn for item in updated if item.type == "aws:ec2/natGateway:NatGateway"]
    assert bool(gateways) == (stack != "local")
    for group in updated.of_type("aws:eks/nodeGroup:NodeGroup"):
        assert set(gateways) <= updated.needs(group.urn)


def test_the_cni_stays_in_the_cluster_when_its_add_on_goes(updated: Graph) -> None:
    assert updated.named("node-addons-vpc-cni").inputs["preserve"] is True


def test_the_sandbox_s_clouds_go_last(updated: Graph, stack: str) -> None:
    if stack != "local":
        assert not [item for item in updated if "Clouds" in item.type]
        return
    (clouds,) = updated.of_type("pulumi-python:dynamic/sandbox:Clouds")
    for item in updated:
        if item.type.startswith(("aws:", "kubernetes:")) or item.type.endswith(
            (":Build", "/runpod:Endpoint")
        ):
            assert clouds.urn in updated.needs(item.urn), item.urn


def test_nothing_is_skipped_or_retained_at_destruction(recorded: Graph) -> None:
    for item in recorded:
        assert not item.request.retainOnDelete, item.urn
        assert not item.request.deletedWith, item.urn


@pytest.mark.parametrize(
    ("survivor", "goes_first"),
    [
        ("aws:ec2/route:Route", "aws:eks/nodeGroup:NodeGroup"),
        ("aws:eks/addon:Addon[vpc-cni]", "aws:eks/nodeGroup:NodeGroup"),
        ("aws:iam/rolePolicyAttachment:RolePolicyAttachment[nodes-role]", "aws:eks/nodeGroup:NodeGroup"),
        ("aws:eks/nodeGroup:NodeGroup[nodes-gpu]", "kubernetes:core/v1:Namespace"),
        (
            "aws:eks/accessPolicyAssociation:AccessPolicyAssociation[deployer]",
            "pulumi:providers:kubernetes",
        ),
    ],
)
def test_without_its_edge_the_order_is_lost(updated: Graph, survivor: str, goes_first: str) -> None:
    """The rules above hold by these edges, not by chance: taken away, the survivor could go first."""
    last, first = _select(updated, survivor)[0], _select(updated, goes_first)[0]
    others = [item.urn for item in updated if last.urn in item.edges]
    assert last.urn in updated.needs(first.urn)
    without = frozenset((urn, last.urn) for urn in others)
    assert last.urn not in updated.needs(first.urn, without=without)
