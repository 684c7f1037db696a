"""One stack file -> frozen, validated, typed settings; every error at once, in the user's words."""

from __future__ import annotations

from infra.settings.loading import PROJECT, Settings, from_config, load
from infra.settings.problems import SettingsError
from infra.settings.sections import (
    AwsSettings,
    EksSettings,
    GpuNodeSettings,
    ImageSettings,
    LoadBalancerSettings,
    ModelSettings,
    NetworkSettings,
    PodSettings,
    RunpodSettings,
    SandboxSettings,
    ServingSettings,
    SystemNodeSettings,
    Target,
    Task,
)

__all__ = [
    "PROJECT",
    "AwsSettings",
    "EksSettings",
    "GpuNodeSettings",
    "ImageSettings",
    "LoadBalancerSettings",
    "ModelSettings",
    "NetworkSettings",
    "PodSettings",
    "RunpodSettings",
    "SandboxSettings",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "SystemNodeSettings",
    "Target",
    "Task",
    "from_config",
    "load",
]
