"""One stack file -> frozen, validated, typed settings; every error at once, in the user's words."""

from __future__ import annotations

from infra.settings.eks import AddonName, EksSettings
from infra.settings.eks_network import ApiSettings, ExistingVpcSettings, FlowLogSettings, NetworkSettings
from infra.settings.eks_nodes import GpuNodeSettings, SystemNodeSettings, WarmPoolSettings
from infra.settings.eks_operations import AutoscalingSettings, MonitoringSettings
from infra.settings.eks_service import LoadBalancerSettings, PodSettings, S3WeightsSettings, WafSettings
from infra.settings.loading import PROJECT, Settings, from_config, load
from infra.settings.model import AdapterSettings, ModelSettings, PoolingSettings, Task
from infra.settings.problems import SettingsError
from infra.settings.runpod import RunpodSettings, VolumeSettings
from infra.settings.sections import (
    AwsSettings,
    BudgetSettings,
    ImageSettings,
    SandboxSettings,
    ServingSettings,
    Target,
)
from infra.settings.server import ServerSettings

__all__ = [
    "PROJECT",
    "AdapterSettings",
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
    "PoolingSettings",
    "RunpodSettings",
    "S3WeightsSettings",
    "SandboxSettings",
    "ServerSettings",
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
