"""One stack file -> frozen, validated, typed settings; every error at once, in the user's words."""

from __future__ import annotations

from infra.settings.eks import AddonName, EksSettings
from infra.settings.eks_network import ApiSettings, ExistingVpcSettings, FlowLogSettings, NetworkSettings
from infra.settings.eks_nodes import GpuNodeSettings, SystemNodeSettings, WarmPoolSettings
from infra.settings.eks_operations import AutoscalingSettings, MonitoringSettings
from infra.settings.eks_service import LoadBalancerSettings, PodSettings, S3WeightsSettings, WafSettings
from infra.settings.loading import PROJECT, Settings, from_config, load
from infra.settings.problems import SettingsError
from infra.settings.runpod import RunpodSettings, VolumeSettings
from infra.settings.sections import (
    AwsSettings,
    BudgetSettings,
    ImageSettings,
    ModelSettings,
    SandboxSettings,
    ServingSettings,
    Target,
    Task,
)

__all__ = [
    "PROJECT",
    "AddonName",
    "ApiSettings",
    "AutoscalingSettings",
    "AwsSettings",
    "BudgetSettings",
    "EksSettings",
    "ExistingVpcSettings",
    "FlowLogSettings",
    "GpuNodeSettings",
    "ImageSettings",
    "LoadBalancerSettings",
    "ModelSettings",
    "MonitoringSettings",
    "NetworkSettings",
    "PodSettings",
    "RunpodSettings",
    "S3WeightsSettings",
    "SandboxSettings",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "SystemNodeSettings",
    "Target",
    "Task",
    "VolumeSettings",
    "WafSettings",
    "WarmPoolSettings",
    "from_config",
    "load",
]
