"""The EKS side as a whole: its components in the order in which they must come, and go in reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.api_key import ApiKey
from infra.eks.addons import ClusterAddons, NodeAddons
from infra.eks.cluster import Cluster
from infra.eks.cluster_autoscaler import ClusterAutoscaler
from infra.eks.control_plane_logs import ControlPlaneLogs
from infra.eks.device_plugin import DevicePlugin
from infra.eks.interfaces import InterfaceSweep
from infra.eks.load_balancer import LoadBalancer
from infra.eks.model_service import ModelService
from infra.eks.monitoring import Monitoring
from infra.eks.network import Network
from infra.eks.nodes import Nodes
from infra.eks.scaling import Scaling
from infra.eks.weights import Weights
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
    account_id: pulumi.Input[str],
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
        account_id: the account.
        image: the image by digest.
        api_key: what requests must carry.
        hub_token: for models that are not public; None without one.
    """
    on_aws = component(accounts.aws)
    deployer = aws.iam.get_session_context_output(
        arn=caller_arn, opts=pulumi.InvokeOutputOptions(provider=accounts.aws)
    )
    logs = ControlPlaneLogs("control-plane-logs", names=names, settings=settings, opts=on_aws)
    network = Network(
        "network",
        names=names,
        settings=settings,
        region=accounts.region,
        provider=accounts.aws,
        after=[logs.group],
        opts=on_aws,
    )
    cluster = Cluster(
        "cluster",
        names=names,
        settings=settings,
        network=network,
        logs=logs,
        region=accounts.region,
        endpoint=accounts.aws_endpoint,
        provider=accounts.aws,
        caller_arn=deployer.issuer_arn,
        opts=on_aws,
    )
    sweep = InterfaceSweep(
        "interfaces",
        vpc_id=network.vpc_id,
        cluster=cluster.name,
        security_group_id=cluster.security_group_id,
        region=accounts.region,
        endpoint=accounts.aws_endpoint,
        opts=pulumi.ResourceOptions(depends_on=network.subnets),
    )
    node_addons = NodeAddons(
        "node-addons",
        names=names,
        settings=settings,
        cluster=cluster,
        provider=accounts.aws,
        after=[sweep],
        opts=on_aws,
    )
    nodes = Nodes(
        "nodes",
        names=names,
        settings=settings,
        cluster=cluster,
        network=network,
        after=[sweep, *node_addons.addons],
        opts=on_aws,
    )
    cluster_addons = ClusterAddons(
        "cluster-addons",
        names=names,
        settings=settings,
        cluster=cluster,
        provider=accounts.aws,
        nodes=[nodes.system],
        opts=on_aws,
    )
    on_cluster = component(cluster.provider)
    device_plugin = DevicePlugin(
        "device-plugin", names=names, settings=settings, after=list(nodes.gpu.values()), opts=on_cluster
    )
    ready: list[pulumi.Resource] = [*nodes.gpu.values(), *cluster_addons.addons, *device_plugin.resources]
    if settings.cluster_autoscaler:
        ready += ClusterAutoscaler(
            "cluster-autoscaler",
            names=names,
            settings=settings,
            serving=serving,
            cluster=cluster,
            region=accounts.region,
            after=[*nodes.gpu.values(), *nodes.autoscaling, *cluster_addons.addons],
            opts=component(accounts.aws, cluster.provider),
        ).resources
    weights = None
    if settings.s3_weights is not None:
        weights = Weights(
            "weights",
            names=names,
            settings=settings,
            serving=serving,
            cluster=cluster,
            account_id=account_id,
            region=accounts.region,
            endpoint=accounts.aws_endpoint,
            hub_token=hub_token,
            opts=on_aws,
        )
    monitoring = None
    if settings.monitoring is not None:
        monitoring = Monitoring(
            "monitoring",
            names=names,
            settings=settings.monitoring,
            serving=serving,
            grafana_password=ApiKey("grafana-password").key,
            after=[nodes.system, *cluster_addons.addons],
            gpu_nodes=list(nodes.gpu.values()),
            opts=on_cluster,
        )
    model = ModelService(
        "model",
        names=names,
        settings=settings,
        serving=serving,
        image=image,
        api_key=api_key,
        hub_token=hub_token,
        weights=weights,
        load_balancer_cidrs=network.load_balancer_cidrs,
        monitoring_namespace=monitoring.namespace if monitoring else None,
        after=ready,
        opts=on_cluster,
    )
    if settings.autoscaling is not None and monitoring is not None:
        Scaling(
            "scaling",
            names=names,
            settings=settings.autoscaling,
            serving=serving,
            deployment=model.deployment,
            monitoring=monitoring,
            after=[nodes.system, *cluster_addons.addons],
            opts=on_cluster,
        )
    load_balancer = LoadBalancer(
        "load-balancer",
        names=names,
        settings=settings,
        serving=serving,
        cluster=cluster,
        network=network,
        nodes=nodes,
        account_id=account_id,
        opts=on_aws,
    )
    # The address is of use when something answers behind it.
    url = pulumi.Output.all(load_balancer.url, model.deployment.id).apply(lambda values: str(values[0]))
    return EksDeployment(cluster.name, cluster.kubeconfig, url)
