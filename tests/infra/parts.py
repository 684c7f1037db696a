"""Runs the cluster and its network alone, against a cloud that answers what a test says."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws
from pulumi.runtime import settings, stack

from infra.eks.cluster import Cluster
from infra.eks.control_plane_logs import ControlPlaneLogs
from infra.eks.network import Network
from infra.naming import Names
from infra.options import component
from infra.settings import EksSettings
from ops.graph import answers
from tests.infra import graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulumi.runtime import mocks

CALLER = "arn:aws:iam::123456789012:role/deployer"
REGION = "us-east-1"
VPC = "vpc-0123456789abcdef0"
NODE_SUBNETS = ["subnet-00000000000000001", "subnet-00000000000000002"]
BALANCER_SUBNETS = ["subnet-00000000000000003", "subnet-00000000000000004"]
EXISTING = {
    "vpc_id": VPC,
    "node_subnet_ids": NODE_SUBNETS,
    "load_balancer_subnet_ids": BALANCER_SUBNETS,
}
_SECTION: dict[str, Any] = {
    "api": {"allowed_cidrs": ["203.0.113.0/24"]},
    "gpu_node_groups": {"gpu": {"instance_types": ["g6.xlarge"], "desired": 1, "max": 1}},
}


class _Cloud(answers.Cloud):
    """Answers what a test says, by function or by the id that is asked about; without a provider, nothing."""

    def __init__(self, preview: bool, configured: bool, said: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(preview)
        self._configured, self._said = configured, said

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]  # both are taken
        if not self._configured:
            return {}
        function = args.token.rpartition(":")[2]
        usual = {"region": REGION, **super().call(args)}
        return {**usual, **self._said.get(function, {}), **self._said.get(args.args.get("id", ""), {})}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        made, outputs = super().new_resource(args)
        if args.typ == "aws:ec2/vpc:Vpc" and made is not None:
            outputs["ownerId"] = answers.ACCOUNT
        return made, outputs


def run(
    *,
    preview: bool = False,
    configured: bool = True,
    said: Mapping[str, Mapping[str, Any]] | None = None,
    caller: str = CALLER,
    **section: Any,
) -> graph.Graph:
    """Return what the cluster and its network register; what the network offers others is the output.

    Args:
        preview: whether resources have no outputs yet.
        configured: whether there is a provider to ask AWS by.
        said: what AWS answers instead of the usual, by function or by id.
        caller: who deploys.
        section: settings of the section `eks`, over the least that it needs.
    """
    return _run(preview, configured, json.dumps(said or {}), caller, json.dumps({**_SECTION, **section}))


@functools.cache
def _run(preview: bool, configured: bool, said: str, caller: str, section: str) -> graph.Graph:
    eks = EksSettings.model_validate_json(section)
    cloud = _Cloud(preview, configured, json.loads(said))
    return graph.declared(lambda: _declare(eks, caller), "test", cloud=cloud)


def _declare(eks: EksSettings, caller: str) -> None:
    names = Names("berth", "test", "me")
    provider = aws.Provider("aws", region=REGION, default_tags={"tags": names.tags})
    on_aws = component(provider)
    logs = ControlPlaneLogs("control-plane-logs", names=names, settings=eks, opts=on_aws)
    network = Network(
        "network",
        names=names,
        settings=eks,
        region=REGION,
        provider=provider,
        after=[logs.group],
        opts=on_aws,
    )
    Cluster(
        "cluster",
        names=names,
        settings=eks,
        network=network,
        logs=logs,
        region=REGION,
        endpoint=None,
        provider=provider,
        caller_arn=caller,
        opts=on_aws,
    )
    offered = ("vpc_id", "vpc_cidr", "node_subnet_ids", "node_cidrs", "control_plane_subnet_ids")
    for key in (*offered, "load_balancer_subnet_ids", "load_balancer_cidrs"):
        pulumi.export(key, getattr(network, key))
    root = settings.get_root_resource()
    assert isinstance(root, stack.Stack)
    root.register_outputs(root.outputs)
