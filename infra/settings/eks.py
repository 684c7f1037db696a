"""The section `eks` of a stack file, with its defaults: the cluster and what runs on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.settings.eks_network import ApiSettings, NetworkSettings
from infra.settings.eks_nodes import GpuNodeSettings, SystemNodeSettings
from infra.settings.eks_operations import AutoscalingSettings, MonitoringSettings
from infra.settings.eks_service import LoadBalancerSettings, PodSettings, S3WeightsSettings
from infra.settings.vocabulary import (
    AddonVersion,
    Allowed,
    Flag,
    GroupName,
    KubernetesVersion,
    Positive,
    PrincipalArn,
    PrincipalArns,
    Section,
)

LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]
AddonName = Literal[
    "vpc-cni",
    "kube-proxy",
    "eks-pod-identity-agent",
    "coredns",
    "metrics-server",
    "eks-node-monitoring-agent",
    "amazon-cloudwatch-observability",
]


def _some(groups: Mapping[str, GpuNodeSettings]) -> Mapping[str, GpuNodeSettings]:
    if not groups:
        raise ValueError(groups)
    return groups


class EksSettings(Section):
    """The EKS cluster and what runs on it."""

    kubernetes_version: KubernetesVersion = "1.35"
    network: NetworkSettings = NetworkSettings()
    api: ApiSettings
    deployer_principal_arn: PrincipalArn | None = Field(
        default=None,
        description="who deploys, where several do in turn: a role that all take; else the caller",
    )
    admin_principal_arns: PrincipalArns = ()
    viewer_principal_arns: PrincipalArns = ()
    control_plane_logs: Annotated[
        tuple[LogType, ...],
        Allowed("a list of api, audit, authenticator, controllerManager, scheduler"),
    ] = ("api", "audit", "authenticator")
    log_retention_days: Annotated[
        Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731],
        Allowed("a number of days that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, ... 731"),
    ] = 30
    deletion_protection: Flag = Field(
        default=False,
        description="refuse to delete the cluster and its load balancer, and so to destroy the stack",
    )
    addon_versions: Annotated[
        Mapping[AddonName, AddonVersion],
        Allowed('a mapping of add-on names to versions such as "v1.21.1-eksbuild.3"'),
    ] = Field(default_factory=dict, description="else the default of the cluster's version in the region")
    system_nodes: SystemNodeSettings = SystemNodeSettings()
    gpu_node_groups: Annotated[
        Mapping[GroupName, GpuNodeSettings],
        AfterValidator(_some),
        Allowed("a mapping of one or more names, of lower-case letters and digits, to node groups"),
    ]
    cluster_autoscaler: Flag = Field(
        default=False, description="add machines for pods that wait, and take those away that nothing needs"
    )
    replicas: Positive = 1
    autoscaling: AutoscalingSettings | None = Field(
        default=None, description="replicas by load, in the place of `replicas`"
    )
    surge: Flag = Field(default=False, description="a rollout may use a GPU more than the replicas have")
    pod: PodSettings = PodSettings()
    s3_weights: S3WeightsSettings | None = Field(default=None, description="else from the model's own source")
    load_balancer: LoadBalancerSettings = LoadBalancerSettings()
    monitoring: MonitoringSettings | None = None
    cloudwatch_observability: Flag = Field(
        default=False, description="containers' logs and metrics in CloudWatch, by EKS's own add-on"
    )

    @property
    def most_replicas(self) -> int:
        """The most replicas that there can be."""
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas

    def problems(self) -> list[tuple[str, str]]:
        """Return principals that are named twice: one has one access entry in a cluster."""
        named = {
            "viewer_principal_arns": self.viewer_principal_arns,
            "admin_principal_arns": self.admin_principal_arns,
            "deployer_principal_arn": tuple(filter(None, [self.deployer_principal_arn])),
        }
        found, seen = [], Counter[str]()
        for key, arns in named.items():
            seen.update(arns)
            found += [
                (key, f"has {arn} twice: must name each principal once")
                for arn in dict.fromkeys(arns)
                if seen[arn] > 1
            ]
        if self.autoscaling is not None and "replicas" in self.model_fields_set:
            found.append(("replicas", "goes without autoscaling, which decides how many there are"))
        return found
