"""Runs the cluster and its machines alone, with a section `eks` of the test's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra.eks.addons import ClusterAddons, NodeAddons
from infra.eks.cluster import Cluster
from infra.eks.cluster_autoscaler import ClusterAutoscaler
from infra.eks.control_plane_logs import ControlPlaneLogs
from infra.eks.device_plugin import DevicePlugin
from infra.eks.interfaces import InterfaceSweep
from infra.eks.network import Network
from infra.eks.nodes import Nodes
from infra.naming import Names
from infra.options import component
from infra.serving import spec
from infra.settings import from_config
from ops.graph import answers
from tests.infra import graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulumi.runtime import mocks

    from infra.settings import Settings

NEWEST = "v1.21.1-eksbuild.3"
DEFAULT = "v1.20.0-eksbuild.1"
CLUSTER_ARN = f"arn:aws:eks:us-east-1:{answers.ACCOUNT}:cluster/it"
_REGION = "us-east-1"


class Cloud(answers.Cloud):
    """Answers as AWS would, with the same versions for every add-on.

    Args:
        preview: whether nothing is made.
        configured: whether it can be asked; else it answers with nothing, as before there is an account.
    """

    def __init__(self, preview: bool, *, configured: bool) -> None:
        super().__init__(preview)
        self._configured = configured

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]  # both are taken
        if not self._configured:
            return {}
        if args.token == "aws:eks/getAddonVersion:getAddonVersion":
            asked = args.args
            return {**asked, "version": NEWEST if asked.get("mostRecent") else DEFAULT}
        return super().call(args)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        id_, outputs = super().new_resource(args)
        if id_ is not None and args.typ == "aws:eks/cluster:Cluster":
            outputs["arn"] = CLUSTER_ARN
        return id_, outputs


def run(*, preview: bool = False, configured: bool = True, serving: Any = None, **eks: Any) -> graph.Graph:
    """Return what the cluster and its machines register.

    Args:
        preview: whether resources have no outputs yet.
        configured: whether the cloud can be asked.
        serving: the section `serving`, over that of the file.
        eks: the section `eks`, over the least that it needs.
    """
    wanted = settings(serving=serving, **eks)
    return graph.declared(lambda: _declare(wanted), "test", cloud=Cloud(preview, configured=configured))


def settings(*, serving: Mapping[str, Any] | None = None, **eks: Any) -> Settings:
    """Return a stack's settings with this section `eks`, over the least that it needs."""
    config = {
        "berth:targets": ["eks"],
        "berth:model": {
            "name": "Qwen/Qwen2.5-7B-Instruct",
            "revision": "a09a35458c702b33eeacc393d103063234e8bc28",
            "max_model_len": 8192,
        },
        "berth:aws": {"region": "us-east-1", "owner": "me"},
        "berth:serving": dict(serving or {}),
        "berth:eks": {
            "api": {"allowed_cidrs": ["203.0.113.0/24"]},
            "gpu_node_groups": {"gpu": {"instance_types": ["g6.xlarge"]}},
            **eks,
        },
    }
    return from_config({key: json.dumps(value) for key, value in config.items()}, "stacks/Pulumi.test.yaml")


def _declare(wanted: Settings) -> None:
    names, eks = Names("berth", "test", "me"), wanted.require_eks()
    provider = aws.Provider("aws", region=_REGION, default_tags={"tags": names.tags})
    on_aws = component(provider)
    logs = ControlPlaneLogs("control-plane-logs", names=names, settings=eks, opts=on_aws)
    network = Network(
        "network",
        names=names,
        settings=eks,
        region=_REGION,
        provider=provider,
        after=[logs.group],
        opts=on_aws,
    )
    cluster = Cluster(
        "cluster",
        names=names,
        settings=eks,
        network=network,
        logs=logs,
        region=_REGION,
        endpoint=None,
        provider=provider,
        caller_arn=f"arn:aws:iam::{answers.ACCOUNT}:role/deployer",
        opts=on_aws,
    )
    sweep = InterfaceSweep(
        "interfaces",
        vpc_id=network.vpc_id,
        cluster=cluster.name,
        security_group_id=cluster.security_group_id,
        region=_REGION,
        endpoint=None,
        opts=pulumi.ResourceOptions(depends_on=[cluster.cluster, *network.subnets]),
    )
    node_addons = NodeAddons(
        "node-addons",
        names=names,
        settings=eks,
        cluster=cluster,
        provider=provider,
        after=[sweep],
        opts=on_aws,
    )
    nodes = Nodes(
        "nodes",
        names=names,
        settings=eks,
        cluster=cluster,
        network=network,
        after=[sweep, *node_addons.addons],
        opts=on_aws,
    )
    addons = ClusterAddons(
        "cluster-addons",
        names=names,
        settings=eks,
        cluster=cluster,
        provider=provider,
        nodes=[nodes.system],
        opts=on_aws,
    )
    DevicePlugin(
        "device-plugin",
        names=names,
        settings=eks,
        after=list(nodes.gpu.values()),
        opts=component(cluster.provider),
    )
    if eks.cluster_autoscaler:
        ClusterAutoscaler(
            "cluster-autoscaler",
            names=names,
            settings=eks,
            serving=spec(wanted),
            cluster=cluster,
            region=_REGION,
            after=[nodes.system, *nodes.gpu.values(), *nodes.autoscaling, *addons.addons],
            opts=pulumi.ResourceOptions(providers=[provider, cluster.provider]),
        )


def outlives(recorded: graph.Graph, survivor: str, first: graph.Recorded) -> bool:
    """Return whether what has the name or type `survivor`, all of it, is deleted only after `first`."""
    last = {item.urn for item in recorded if survivor in (item.name, item.type) and item.custom}
    assert last, f"nothing is {survivor}"
    return last <= recorded.needs(first.urn)
