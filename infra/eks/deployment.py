"""The EKS side as a whole: its components in the order in which they must come, and go in reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.eks.addons import ClusterAddons, NodeAddons
from infra.eks.cluster import Cluster
from infra.eks.load_balancer import LoadBalancer
from infra.eks.model_service import NODE_PORT, ModelService
from infra.eks.network import Network
from infra.eks.nodes import Nodes
from infra.options import component

if TYPE_CHECKING:
    from infra.accounts import Accounts
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings


@dataclass(frozen=True)
class EksDeployment:
    """What the outside needs to know of the EKS side."""

    cluster_name: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    url: pulumi.Output[str]


def deploy(
    *,
    names: Names,
    settings: EksSettings,
    serving: ServingSpec,
    accounts: Accounts,
    caller_arn: pulumi.Input[str],
    image: pulumi.Input[str],
    api_key: pulumi.Input[str],
    hub_token: pulumi.Input[str] | None,
) -> EksDeployment:
    """Declare the cluster, the model in it and the load balancer in front of it.

    Args:
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served.
        accounts: the providers.
        caller_arn: who deploys; of a role's session, the role gets in.
        image: the image by digest.
        api_key: what requests must carry.
        hub_token: for models that are not public; None without one.
    """
    on_aws = component(accounts.aws)
    deployer = aws.iam.get_session_context_output(
        arn=caller_arn, opts=pulumi.InvokeOutputOptions(provider=accounts.aws)
    )
    network = Network(
        "network",
        names=names,
        settings=settings.network,
        region=accounts.region,
        provider=accounts.aws,
        opts=on_aws,
    )
    cluster = Cluster(
        "cluster",
        names=names,
        settings=settings,
        network=network,
        region=accounts.region,
        endpoint=accounts.aws_endpoint,
        deployer_arn=deployer.issuer_arn,
        opts=on_aws,
    )
    node_addons = NodeAddons("node-addons", cluster=cluster, opts=on_aws)
    nodes = Nodes(
        "nodes",
        names=names,
        settings=settings,
        cluster=cluster,
        network=network,
        addons=node_addons.addons,
        opts=on_aws,
    )
    cluster_addons = ClusterAddons("cluster-addons", cluster=cluster, nodes=[nodes.system], opts=on_aws)
    model = ModelService(
        "model",
        names=names,
        settings=settings,
        serving=serving,
        image=image,
        api_key=api_key,
        hub_token=hub_token,
        after=[nodes.gpu, *cluster_addons.addons],
        opts=component(cluster.provider),
    )
    load_balancer = LoadBalancer(
        "load-balancer",
        names=names,
        settings=settings,
        serving=serving,
        node_port=NODE_PORT,
        cluster=cluster,
        network=network,
        nodes=nodes,
        opts=on_aws,
    )
    # The address is of use when something answers behind it.
    url = pulumi.Output.all(load_balancer.url, model.deployment.id).apply(lambda values: str(values[0]))
    return EksDeployment(cluster.cluster.name, cluster.kubeconfig, url)
