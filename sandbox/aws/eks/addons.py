# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The operations on add-ons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from moto.moto_api._internal import mock_random

from sandbox.aws.eks import catalogue
from sandbox.aws.eks.access import Access
from sandbox.aws.eks.base import page
from sandbox.aws.errors import AwsError

if TYPE_CHECKING:
    from sandbox.aws.eks.state import Cluster


class Addons(Access):
    """Add-ons: kept and described; the sandbox runs none of them."""

    def _addon(self, cluster: Cluster, name: str) -> dict[str, Any]:
        addon = cluster.addons.get(name)
        if addon is None:
            raise AwsError("ResourceNotFoundException", f"No addon: {name} found in cluster: {cluster.name}")
        return addon

    def _check(self, cluster: Cluster, name: str, options: dict[str, Any]) -> None:
        versions = catalogue.ADDONS.get(name)
        if versions is None:
            raise self.invalid(
                f"Addon {name} specified is not supported in {cluster.data['version']} kubernetes version"
            )
        if options.get("addonVersion", versions[0]) not in versions:
            raise self.invalid("Addon version specified is not supported")
        try:
            values = yaml.safe_load(options.get("configurationValues") or "{}")
        except yaml.YAMLError:
            values = None
        if not isinstance(values, dict):
            raise self.invalid(
                "ConfigurationValue provided in request is not supported: it must be a JSON or YAML object"
            )

    def create_addon(self, clusterName: str, addonName: str, **options: Any) -> dict[str, Any]:
        cluster = self.active_cluster(clusterName)
        self._check(cluster, addonName, options)
        if addonName in cluster.addons:
            raise AwsError("ResourceInUseException", "Addon already exists.")
        now = self.cloud.now()
        namespace = options.get("namespaceConfig", {}).get("namespace", "kube-system")
        addon: dict[str, Any] = {
            "addonName": addonName,
            "clusterName": clusterName,
            "status": "CREATING",
            "addonVersion": options.get("addonVersion", catalogue.ADDONS[addonName][0]),
            "health": {"issues": []},
            "addonArn": self.arn(f"addon/{clusterName}/{addonName}/{mock_random.uuid4()}"),
            "createdAt": now,
            "modifiedAt": now,
            "tags": options.get("tags", {}),
            "publisher": "eks",
            "owner": "aws",
            "namespaceConfig": {"namespace": namespace},
            **{
                key: options[key]
                for key in ("serviceAccountRoleArn", "configurationValues")
                if key in options
            },
        }
        self._associate(addon, options)
        cluster.addons[addonName] = addon
        return {"addon": addon}

    def _associate(self, addon: dict[str, Any], options: dict[str, Any]) -> None:
        if "podIdentityAssociations" not in options:
            return
        cluster = self.cluster_of(addon["clusterName"])
        for arn in addon.get("podIdentityAssociations", []):
            cluster.pod_identities.pop(arn.rpartition("/")[2], None)
        made = [
            self.create_pod_identity_association(
                cluster.name, addon["namespaceConfig"]["namespace"], each["serviceAccount"], each["roleArn"]
            )
            for each in options["podIdentityAssociations"]
        ]
        addon["podIdentityAssociations"] = [each["association"]["associationArn"] for each in made]

    def describe_addon(self, clusterName: str, addonName: str) -> dict[str, Any]:
        return {"addon": self._addon(self.cluster_of(clusterName), addonName)}

    def list_addons(self, clusterName: str, **_: Any) -> dict[str, Any]:
        return page("addons", list(self.cluster_of(clusterName).addons))

    def update_addon(self, clusterName: str, addonName: str, **changes: Any) -> dict[str, Any]:
        cluster = self.active_cluster(clusterName)
        addon = self._addon(cluster, addonName)
        self._check(cluster, addonName, changes)
        kept = ("addonVersion", "serviceAccountRoleArn", "configurationValues")
        applied = {key: changes[key] for key in kept if key in changes}
        addon.update(applied, modifiedAt=self.cloud.now())
        self._associate(addon, changes)
        return {"update": self.start_update(cluster, "AddonUpdate", applied, done=True)}

    def delete_addon(self, clusterName: str, addonName: str, **_: Any) -> dict[str, Any]:
        cluster = self.cluster_of(clusterName)
        addon = self._addon(cluster, addonName)
        addon["status"] = "DELETING"
        return {"addon": addon}

    def describe_addon_versions(self, **filters: Any) -> dict[str, Any]:
        name, version = filters.get("addonName"), filters.get("kubernetesVersion")
        clusters = [version] if version else list(catalogue.VERSIONS)
        described = [
            {
                "addonName": addon,
                "type": "networking" if addon in {"vpc-cni", "kube-proxy", "coredns"} else "observability",
                "publisher": "eks",
                "owner": "aws",
                "defaultNamespace": "kube-system",
                "addonVersions": [
                    {
                        "addonVersion": each,
                        "architecture": ["amd64", "arm64"],
                        "compatibilities": [
                            {
                                "clusterVersion": cluster,
                                "platformVersions": ["*"],
                                "defaultVersion": each == versions[0],
                            }
                            for cluster in clusters
                        ],
                    }
                    for each in versions
                ],
            }
            for addon, versions in catalogue.ADDONS.items()
            if name in {None, addon}
        ]
        return page("addons", described)
