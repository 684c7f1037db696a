"""The control plane for every setting of it: what it is, who gets in, and in which order it goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pulumi
import pytest

from infra.settings import ApiSettings
from tests.infra import parts
from tests.infra.graph import Secret

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_ENTRY = "aws:eks/accessEntry:AccessEntry"
_ASSOCIATION = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
_POLICY = "arn:aws:eks::aws:cluster-access-policy/"
_ADMIN, _VIEW = f"{_POLICY}AmazonEKSClusterAdminPolicy", f"{_POLICY}AmazonEKSViewPolicy"
# What EKS changes in place.
_ALL_CHANGED: dict[str, Any] = {
    "network": {"zones": 3, "nat": "per_zone"},
    "kubernetes_version": "1.36",
    "api": {"allowed_cidrs": []},
    "control_plane_logs": ["scheduler", "audit"],
    "log_retention_days": 90,
    "deletion_protection": True,
}
_BOB = "arn:aws:iam::111111111111:role/team/bob"
_EVE = "arn:aws:iam::222222222222:role/team/bob"


@pytest.fixture(params=[True, False], ids=["preview", "update"])
def plain(request: pytest.FixtureRequest) -> Graph:
    return parts.run(preview=request.param)


def _cluster(graph: Graph) -> Recorded:
    (found,) = graph.of_type("aws:eks/cluster:Cluster")
    return found


def _admitted(graph: Graph) -> dict[str, str]:
    """Return who gets in, with the policy; each by one entry."""
    entries = [item.inputs["principalArn"] for item in graph.of_type(_ENTRY)]
    admitted = {item.inputs["principalArn"]: item.inputs["policyArn"] for item in graph.of_type(_ASSOCIATION)}
    assert sorted(entries) == sorted(admitted)
    return admitted


def test_the_control_plane_is_as_the_settings_say(plain: Graph) -> None:
    inputs = _cluster(plain).inputs
    assert inputs["version"] == "1.35"
    assert inputs["upgradePolicy"] == {"supportType": "STANDARD"}
    assert inputs["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    assert inputs["bootstrapSelfManagedAddons"] is False
    assert inputs["enabledClusterLogTypes"] == ["api", "audit", "authenticator"]


@pytest.mark.parametrize(
    ("cidrs", "public"), [(["203.0.113.0/24"], {"publicAccessCidrs": ["203.0.113.0/24"]}), ([], {})]
)
def test_its_api_is_reached_from_the_vpc_and_from_named_networks_only(
    cidrs: list[str], public: dict[str, Any]
) -> None:
    graph = parts.run() if cidrs else parts.run(**_ALL_CHANGED)
    config = dict(_cluster(graph).inputs["vpcConfig"])
    del config["subnetIds"]
    assert config == {"endpointPrivateAccess": True, "endpointPublicAccess": bool(cidrs), **public}


@pytest.mark.parametrize(
    ("cidr", "private"),
    [
        ("10.8.0.0/16", "10.0.0.0/8"),
        ("172.16.0.0/12", "172.16.0.0/12"),
        ("192.168.0.0/24", "192.168.0.0/16"),
        ("0.0.0.0/1", "10.0.0.0/8"),
    ],
)
def test_networks_that_eks_refuses_are_refused_before(cidr: str, private: str) -> None:
    ((key, reason),) = ApiSettings(allowed_cidrs=("203.0.113.0/24", cidr)).problems()
    assert key == "allowed_cidrs"
    assert reason.startswith(f'has "{cidr}": must be of the internet, for EKS refuses {private} here')


@pytest.mark.parametrize("section", [{}, _ALL_CHANGED], ids=["2 zones", "3 zones"])
def test_it_stands_in_the_first_two_zones_and_so_allows_a_third(section: dict[str, Any]) -> None:
    config = _cluster(parts.run(**section)).inputs["vpcConfig"]
    assert config["subnetIds"] == ["network-private-0-id", "network-private-1-id"]


def test_a_version_that_the_region_offers_is_taken() -> None:
    assert _cluster(parts.run(**_ALL_CHANGED)).inputs["version"] == "1.36"


def test_a_version_out_of_standard_support_is_refused_with_those_in_it() -> None:
    with pytest.raises(pulumi.RunError) as refused:
        parts.run(preview=True, kubernetes_version="1.33")
    assert str(refused.value) == (
        'berth:eks.kubernetes_version = "1.33": is not in standard support in us-east-1: must be one of '
        "1.34, 1.35, 1.36"
    )


def test_versions_are_in_the_order_of_their_numbers() -> None:
    versions = [{"clusterVersion": version} for version in ("1.100", "1.99", "1.101")]
    with pytest.raises(pulumi.RunError, match=r"one of 1\.99, 1\.100, 1\.101$"):
        parts.run(preview=True, said={"getClusterVersions": {"clusterVersions": versions}})


def test_without_a_provider_to_ask_by_a_preview_takes_the_wanted_version() -> None:
    assert _cluster(parts.run(preview=True, configured=False)).inputs["version"] == "1.35"


@pytest.mark.parametrize(("protected", "days"), [(True, 30), (False, 7)])
def test_its_secrets_are_under_a_key_of_the_stack_that_is_rotated(protected: bool, days: int) -> None:
    graph = parts.run(**(_ALL_CHANGED if protected else {}))
    (key,) = graph.of_type("aws:kms/key:Key")
    assert key.inputs["enableKeyRotation"] is True
    assert key.inputs["deletionWindowInDays"] == days
    assert _cluster(graph).inputs["encryptionConfig"] == {
        "provider": {"keyArn": key.outputs["arn"]},
        "resources": ["secrets"],
    }
    (alias,) = graph.of_type("aws:kms/alias:Alias")
    assert alias.inputs == {"name": "alias/berth-test-secrets", "targetKeyId": f"{key.name}-id"}


@pytest.mark.parametrize("protected", [True, False])
def test_protection_is_both_aws_s_and_the_engine_s(protected: bool) -> None:
    cluster = _cluster(parts.run(**(_ALL_CHANGED if protected else {})))
    assert cluster.inputs["deletionProtection"] is protected
    assert cluster.request.protect is protected


def test_its_logs_go_into_a_group_of_ours_that_expires() -> None:
    graph = parts.run(**_ALL_CHANGED)
    cluster, group = _cluster(graph), graph.named("control-plane-logs-group")
    assert cluster.inputs["enabledClusterLogTypes"] == ["audit", "scheduler"]
    assert group.inputs["name"] == f"/aws/eks/{cluster.inputs['name']}/cluster"
    assert group.inputs["retentionInDays"] == 90


def test_each_principal_gets_in_by_one_entry(plain: Graph) -> None:
    graph = parts.run(admin_principal_arns=[_BOB], viewer_principal_arns=[_EVE])
    assert _admitted(graph) == {parts.CALLER: _ADMIN, _BOB: _ADMIN, _EVE: _VIEW}
    assert _admitted(plain) == {parts.CALLER: _ADMIN}
    for item in graph.of_type(_ASSOCIATION):
        assert item.inputs["accessScope"] == {"type": "cluster"}


def test_the_named_deployer_gets_in_whoever_of_the_administrators_deploys() -> None:
    graph = parts.run(
        preview=True, caller=_BOB, deployer_principal_arn=parts.CALLER, admin_principal_arns=[_BOB]
    )
    assert _admitted(graph) == {parts.CALLER: _ADMIN, _BOB: _ADMIN}


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (
            {"deployer_principal_arn": _BOB},
            f"berth:eks.deployer_principal_arn = {_BOB}, and {parts.CALLER} deploys, whom the cluster would",
        ),
        (
            {"deployer_principal_arn": _BOB, "viewer_principal_arns": [parts.CALLER]},
            f"berth:eks.deployer_principal_arn = {_BOB}, and {parts.CALLER} deploys, whom the cluster would",
        ),
        (
            {"admin_principal_arns": [parts.CALLER]},
            f"berth:eks.admin_principal_arns has {parts.CALLER}, which deploys: name it as",
        ),
        (
            {"viewer_principal_arns": [parts.CALLER]},
            f"berth:eks.viewer_principal_arns has {parts.CALLER}, which deploys: name it as",
        ),
    ],
)
def test_who_deploys_is_let_in_once(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        parts.run(preview=True, **section)
    assert str(refused.value).startswith(reason)


def test_who_moves_between_the_lists_keeps_the_entry() -> None:
    """AWS refuses a second entry of a principal, and the engine makes the new one before the old one goes."""
    homes = (
        {"admin_principal_arns": [_BOB]},
        {"viewer_principal_arns": [_BOB]},
        {"deployer_principal_arn": _BOB, "caller": _BOB},
    )
    urns = set()
    for home in homes:
        graph = parts.run(**home)
        urns.add(next(item.urn for item in graph.of_type(_ENTRY) if item.inputs["principalArn"] == _BOB))
        for item in (*graph.of_type(_ENTRY), *graph.of_type(_ASSOCIATION)):
            # In another cluster's place, the old entry is what deletes all that is in the old cluster.
            assert not item.request.deleteBeforeReplace
    assert len(urns) == 1


def test_a_deployer_that_gets_named_keeps_the_entry() -> None:
    unnamed = parts.run()
    named = parts.run(deployer_principal_arn=parts.CALLER)
    for type_ in (_ENTRY, _ASSOCIATION):
        (before,), (after,) = unnamed.of_type(type_), named.of_type(type_)
        assert before.urn != after.urn
        assert before.name in [alias.spec.name for alias in after.request.aliases] or (
            before.urn in [*after.request.aliasURNs, *(alias.urn for alias in after.request.aliases)]
        )


def test_the_kubeconfig_asks_for_a_token_and_holds_none(plain: Graph) -> None:
    provider = plain.named("cluster-kubernetes")
    secret = provider.inputs["kubeconfig"]
    assert isinstance(secret, Secret)
    name = _cluster(plain).inputs["name"]
    assert provider.inputs["clusterIdentifier"] == name
    if not plain.outputs["vpc_id"].endswith("-id"):
        return
    document = json.loads(secret.value)
    (user,), (server,) = document["users"], document["clusters"]
    assert server["cluster"] == {"server": "https://cluster.example", "certificate-authority-data": "Q0E="}
    assert set(user["user"]) == {"exec"}
    command = user["user"]["exec"]
    assert [command["command"], *command["args"]] == [
        *("aws", "eks", "get-token", "--cluster-name", name, "--region", "us-east-1", "--output", "json")
    ]
    assert command["interactiveMode"] == "Never"
    assert "env" not in command


@pytest.mark.parametrize(
    "network", [{"vpc_cidr": "10.1.0.0/16"}, {"existing": parts.EXISTING}], ids=["cidr", "existing"]
)
def test_in_another_vpc_it_is_another_cluster_beside_the_old_one(network: dict[str, Any]) -> None:
    """EKS moves no cluster to another VPC: names that differ let the new one stand beside the old one."""
    graphs = parts.run(), parts.run(network=network)
    clusters = [_cluster(graph) for graph in graphs]
    assert clusters[0].inputs["name"] != clusters[1].inputs["name"]
    groups = [graph.named("control-plane-logs-group").inputs["name"] for graph in graphs]
    identifiers = [graph.named("cluster-kubernetes").inputs["clusterIdentifier"] for graph in graphs]
    assert len(set(groups)) == len(set(identifiers)) == 2
    assert not any(cluster.request.deleteBeforeReplace for cluster in clusters)


def test_what_eks_changes_in_place_leaves_the_name() -> None:
    assert _cluster(parts.run(**_ALL_CHANGED)).inputs["name"] == _cluster(parts.run()).inputs["name"]


_OUTLIVES = [
    ("cluster-secrets-key", "cluster-control-plane"),
    ("control-plane-logs-group", "cluster-control-plane"),
    ("cluster-role-AmazonEKSClusterPolicy", "cluster-control-plane"),
    ("cluster-deployer", "cluster-kubernetes"),
    ("cluster-111111111111-role/team/bob", "cluster-kubernetes"),
    ("cluster-control-plane", "cluster-deployer"),
    ("cluster-control-plane", "cluster-111111111111-role/team/bob"),
    ("network-vpc", "cluster-control-plane"),
]


@pytest.mark.parametrize(("survivor", "goes_first"), _OUTLIVES)
def test_it_outlives(survivor: str, goes_first: str) -> None:
    graph = parts.run(admin_principal_arns=[_BOB])
    for first in [item for item in graph if item.name == goes_first]:
        lasts = [item for item in graph if item.name == survivor and "Association" not in item.type]
        assert lasts
        for last in lasts:
            assert last.urn in graph.needs(first.urn), f"{survivor} may be deleted before {goes_first}"


def test_the_kubernetes_provider_goes_before_the_access_that_it_uses() -> None:
    graph = parts.run(admin_principal_arns=[_BOB])
    needed = graph.needs(graph.named("cluster-kubernetes").urn)
    for item in (*graph.of_type(_ASSOCIATION), *graph.of_type(_ENTRY)):
        assert item.urn in needed


def test_the_control_plane_does_not_wait_for_nat(plain: Graph) -> None:
    needed = plain.needs(_cluster(plain).urn)
    slow = plain.of_type("aws:ec2/natGateway:NatGateway", "aws:ec2/vpcEndpoint:VpcEndpoint")
    assert not [item.name for item in slow if item.urn in needed]
