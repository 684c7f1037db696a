"""Functions that say what EKS offers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud


def _pages(
    cloud: Cloud, operation: str, items: str, region: str | None, **parameters: Any
) -> list[dict[str, Any]]:
    """Return all items of a listing of EKS."""
    found: list[dict[str, Any]] = []
    while True:
        response = cloud.call("eks", operation, region, **parameters)
        found += response[items]
        if not response.get("nextToken"):
            return found
        parameters["nextToken"] = response["nextToken"]


def _plain(value: Any) -> Any:
    """Write a time as the official provider does."""
    return (
        value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, dt.datetime) else value
    )


def cluster_versions(cloud: Cloud, arguments: Properties) -> Properties:
    """Return the Kubernetes versions that the region offers, the newest first as AWS lists them."""
    names = {
        "clusterType": "clusterType",
        "clusterVersionsOnlies": "clusterVersions",
        "defaultOnly": "defaultOnly",
        "includeAll": "includeAll",
        "versionStatus": "versionStatus",
    }
    wanted = {names[key]: value for key, value in arguments.items() if key in names}
    region = arguments.get("region") or cloud.region
    found = _pages(cloud, "describe_cluster_versions", "clusterVersions", region, **wanted)
    keys = (
        "clusterType", "clusterVersion", "defaultPlatformVersion", "defaultVersion",
        "endOfExtendedSupportDate", "endOfStandardSupportDate", "kubernetesPatchVersion", "releaseDate",
        "versionStatus",
    )  # fmt: skip
    versions = [
        {
            **{key: _plain(item.get(key, "")) for key in keys},
            "controlPlaneComponentConfigs": [],
            "controlPlaneScalingTiers": [],
        }
        for item in found
    ]
    return {**arguments, "region": region, "clusterVersions": versions}


def addon_version(cloud: Cloud, arguments: Properties) -> Properties:
    """Return the newest version of an add-on for a version of Kubernetes, or the one that is its default.

    Raises:
        PluginError: AWS offers none.
    """
    addon, version = arguments["addonName"], arguments["kubernetesVersion"]
    wanted = {"addonName": addon, "kubernetesVersion": version}
    region = arguments.get("region") or cloud.region
    found = _pages(cloud, "describe_addon_versions", "addons", region, **wanted)
    offered = [item for listed in found for item in listed.get("addonVersions") or ()]
    if not arguments.get("mostRecent"):
        offered = [
            item
            for item in offered
            if any(
                fit.get("clusterVersion") == version and fit.get("defaultVersion")
                for fit in item.get("compatibilities") or ()
            )
        ]
    if not offered:
        raise PluginError(f"no EKS Add-On Version found for {addon} and Kubernetes {version}")
    return {
        **arguments,
        "id": addon,
        "mostRecent": bool(arguments.get("mostRecent")),
        "region": region,
        "version": offered[0]["addonVersion"],
    }
