"""EKS's add-ons: their versions, their rights, their order around the machines."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pulumi
import pytest

from tests.infra import machines

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_ADDON = "aws:eks/addon:Addon"
_BEFORE_NODES = {"vpc-cni", "kube-proxy", "eks-pod-identity-agent", "eks-node-monitoring-agent"}
_AFTER_NODES = {"coredns", "metrics-server"}


@functools.cache
def _graph(section: str, preview: bool, configured: bool) -> Graph:
    return machines.run(preview=preview, configured=configured, **json.loads(section))


def _run(*, preview: bool = False, configured: bool = True, **eks: Any) -> Graph:
    return _graph(json.dumps(eks, sort_keys=True), preview, configured)


def _addons(recorded: Graph) -> dict[str, Recorded]:
    return {item.inputs["addonName"]: item for item in recorded.of_type(_ADDON)}


def test_what_machines_need_comes_before_them_and_the_rest_after() -> None:
    recorded = _run()
    addons = _addons(recorded)
    assert set(addons) == _BEFORE_NODES | _AFTER_NODES
    system, gpu = recorded.named("nodes-system"), recorded.named("nodes-gpu-gpu")
    for name in _BEFORE_NODES:
        for group in (system, gpu):
            assert addons[name].urn in recorded.needs(group.urn), name
            assert group.urn not in recorded.needs(addons[name].urn), name
    for name in _AFTER_NODES:
        assert system.urn in recorded.needs(addons[name].urn), name
        assert gpu.urn not in recorded.needs(addons[name].urn), name  # a GPU may not be had for hours


@pytest.mark.parametrize("preview", [True, False])
def test_versions_are_always_said(preview: bool) -> None:
    for name, addon in _addons(_run(preview=preview)).items():
        assert addon.inputs["addonVersion"] == machines.DEFAULT, name


def test_a_pinned_version_is_taken_even_the_newest_and_the_others_stay() -> None:
    addons = _addons(_run(addon_versions={"coredns": "v1.13.2-eksbuild.1", "vpc-cni": machines.NEWEST}))
    assert addons["coredns"].inputs["addonVersion"] == "v1.13.2-eksbuild.1"
    assert addons["vpc-cni"].inputs["addonVersion"] == machines.NEWEST
    assert addons["kube-proxy"].inputs["addonVersion"] == machines.DEFAULT


@pytest.mark.parametrize(
    ("preview", "pin"),
    [(True, "v1.21.1-eksbuild.4"), (False, "v1.21.2-eksbuild.1"), (True, "v1.100.0-eksbuild.1")],
)
def test_a_pinned_version_that_the_region_has_not_got_is_refused(preview: bool, pin: str) -> None:
    with pytest.raises(
        pulumi.RunError,
        match=(
            rf'berth:eks\.addon_versions\.vpc-cni = "{pin}": the region has none newer than '
            rf'"{machines.NEWEST}" for Kubernetes 1\.35'
        ),
    ):
        machines.run(preview=preview, addon_versions={"vpc-cni": pin})


def test_before_there_is_an_account_nothing_is_asked_twice_or_refused() -> None:
    recorded = _run(preview=True, configured=False, addon_versions={"vpc-cni": "v9.0.0-eksbuild.1"})
    assert set(_addons(recorded)) == _BEFORE_NODES | _AFTER_NODES


def test_the_cni_enforces_policies_and_gives_addresses_in_blocks() -> None:
    addons = _addons(_run())
    assert json.loads(addons["vpc-cni"].inputs["configurationValues"]) == {
        "enableNetworkPolicy": "true",
        "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
    }
    assert not [
        name for name, item in addons.items() if name != "vpc-cni" and "configurationValues" in item.inputs
    ]


def test_what_machines_need_to_their_end_stays_in_the_cluster() -> None:
    kept = {name for name, item in _addons(_run()).items() if item.inputs.get("preserve")}
    assert kept == {"vpc-cni", "kube-proxy"}


def test_only_what_is_ours_is_overwritten() -> None:
    for name, item in _addons(_run()).items():
        mine = bool(item.inputs.get("preserve"))  # an earlier one of ours may have left it
        assert item.inputs["resolveConflictsOnCreate"] == ("OVERWRITE" if mine else "NONE"), name
        assert item.inputs["resolveConflictsOnUpdate"] == "OVERWRITE", name
        assert all(item.timeouts), name


def test_observability_is_a_setting() -> None:
    assert "amazon-cloudwatch-observability" not in _addons(_run())
    recorded = _run(cloudwatch_observability=True, cluster_autoscaler=True)
    addon = _addons(recorded)["amazon-cloudwatch-observability"]
    assert recorded.named("nodes-system").urn in recorded.needs(addon.urn)
    (association,) = addon.inputs["podIdentityAssociations"]
    assert association["serviceAccount"] == "cloudwatch-agent"
    attached = recorded.named(
        "cluster-addons-amazon-cloudwatch-observability-role-CloudWatchAgentServerPolicy"
    )
    assert attached.inputs["policyArn"] == "arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy"
    assert machines.outlives(recorded, attached.name, addon)


def test_rights_are_pod_identity_s_and_of_one_service_account_of_this_cluster() -> None:
    recorded = _run(cloudwatch_observability=True, cluster_autoscaler=True)
    takers = {
        "node-addons-vpc-cni-role": ("kube-system", "aws-node"),
        "cluster-addons-amazon-cloudwatch-observability-role": ("amazon-cloudwatch", "cloudwatch-agent"),
        "cluster-autoscaler-role": ("kube-system", "cluster-autoscaler"),
    }
    roles = {item.name: item for item in recorded.of_type("aws:iam/role:Role")}
    for name, (namespace, service_account) in takers.items():
        (statement,) = json.loads(roles[name].inputs["assumeRolePolicy"])["Statement"]
        assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
        assert statement["Condition"] == {
            "StringEquals": {
                "aws:RequestTag/eks-cluster-arn": machines.CLUSTER_ARN,
                "aws:RequestTag/kubernetes-namespace": namespace,
                "aws:RequestTag/kubernetes-service-account": service_account,
            }
        }
    cni = _addons(recorded)["vpc-cni"]
    assert cni.inputs["podIdentityAssociations"] == [
        {"roleArn": roles["node-addons-vpc-cni-role"].outputs["arn"], "serviceAccount": "aws-node"}
    ]
    for addon in recorded.of_type(_ADDON):
        assert "serviceAccountRoleArn" not in addon.inputs
    assert not [item for item in recorded if "openIdConnect" in item.type]


def test_no_policy_of_ours_for_pods_allows_actions_by_a_star() -> None:
    recorded = _run(cloudwatch_observability=True, cluster_autoscaler=True)
    seen = [
        action
        for item in recorded
        if item.type.startswith("aws:iam/")
        for key in {"policy", "assumeRolePolicy"} & set(item.inputs)
        for statement in json.loads(item.inputs[key])["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    ]
    assert "autoscaling:SetDesiredCapacity" in seen
    assert not [action for action in seen if "*" in action]
