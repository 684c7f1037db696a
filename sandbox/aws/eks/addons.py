# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The operations on add-ons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.moto_api._internal import mock_random

from sandbox.aws.eks import addon_values, catalogue
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
        version = cluster.data["version"]
        if name not in catalogue.ADDONS or not catalogue.addon_versions(name, version):
            raise self.invalid(f"Addon {name} specified is not supported in {version} kubernetes version")
        wanted = options.get("addonVersion")
        if wanted is not None and wanted not in catalogue.addon_versions(name, version):
            raise self.invalid("Addon version specified is not supported")
        if (values := options.get("configurationValues")) and (fault := addon_values.fault_of(name, values)):
            raise self.invalid(fault)
        for each in options.get("podIdentityAssociations", []):
            if each["serviceAccount"] not in catalogue.ADDON_SERVICE_ACCOUNTS.get(name, ()):
                raise self.invalid(
                    f"Pod identity association with service account {each['serviceAccount']} is not "
                    f"supported for addon {name}"
                )

    def create_addon(self, clusterName: str, addonName: str, **options: Any) -> dict[str, Any]:
        cluster = self.active_cluster(clusterName)
        self._check(cluster, addonName, options)
        if addonName in cluster.addons:
            raise AwsError("ResourceInUseException", "Addon already exists.")
        now = self.cloud.now()
        namespace = options.get("namespaceConfig", {}).get(
            "namespace", catalogue.ADDON_NAMESPACES.get(addonName, "kube-system")
        )
        addon: dict[str, Any] = {
            "addonName": addonName,
            "clusterName": clusterName,
            "status": "CREATING",
            "addonVersion": options.get("addonVersion")
            or catalogue.default_addon_version(addonName, cluster.data["version"]),
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
        if addonName == "vpc-cni":
            cluster.cni_removed = False
        return {"addon": addon}

    def _associate(self, addon: dict[str, Any], options: dict[str, Any]) -> None:
        """Give an add-on's service accounts their roles, in place of those that they have."""
        if "podIdentityAssociations" not in options:
            return
        cluster = self.cluster_of(addon["clusterName"])
        own = {arn.rpartition("/")[2] for arn in addon.get("podIdentityAssociations", [])}
        namespace = addon["namespaceConfig"]["namespace"]
        for each in options["podIdentityAssociations"]:
            self.check_association(cluster, namespace, each["serviceAccount"], each["roleArn"], but=own)
        for identity in own:
            cluster.pod_identities.pop(identity, None)
        addon["podIdentityAssociations"] = [
            self.associate(
                cluster, namespace, each["serviceAccount"], each["roleArn"], {"ownerArn": addon["addonArn"]}
            )["associationArn"]
            for each in options["podIdentityAssociations"]
        ]

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

    def delete_addon(
        self, clusterName: str, addonName: str, preserve: bool = False
    ) -> dict[str, Any]:  # AWS's parameter
        cluster = self.cluster_of(clusterName)
        addon = self._addon(cluster, addonName)
        addon["status"] = "DELETING"
        if addonName == "vpc-cni" and not preserve:
            cluster.cni_removed = True
        return {"addon": addon}

    def describe_addon_versions(self, **filters: Any) -> dict[str, Any]:
        name, wanted = filters.get("addonName"), filters.get("kubernetesVersion")
        described = [
            {
                "addonName": addon,
                "type": "networking" if addon in {"vpc-cni", "kube-proxy", "coredns"} else "observability",
                "publisher": "eks",
                "owner": "aws",
                "defaultNamespace": catalogue.ADDON_NAMESPACES.get(addon, "kube-system"),
                "addonVersions": [
                    {
                        "addonVersion": version,
                        "architecture": ["amd64", "arm64"],
                        "compatibilities": [
                            {
                                "clusterVersion": cluster,
                                "platformVersions": ["*"],
                                "defaultVersion": version == catalogue.default_addon_version(addon, cluster),
                            }
                            for cluster in clusters
                            if wanted in {None, cluster}
                        ],
                        "requiresConfiguration": False,
                        "requiresIamPermissions": addon in catalogue.ADDON_SERVICE_ACCOUNTS,
                    }
                    for version, clusters in versions.items()
                    if wanted is None or wanted in clusters
                ],
            }
            for addon, versions in catalogue.ADDONS.items()
            if name in {None, addon}
        ]
        return page("addons", [each for each in described if each["addonVersions"]])
