"""EKS clusters, and what all types of EKS have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.types import Context, Operation, Status, Type
from sandbox.plugins.errors import PluginError
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.engine.values import Properties

_UPDATE_PAUSE_SECONDS = 0.5


class EksType(Type):
    """A type of EKS."""

    service = "eks"
    tagging = ("tag_resource", "untag_resource", "resourceArn")

    def finish(self, context: Context, response: dict[str, Any], **names: str) -> None:
        """Wait until an asynchronous update is done: AWS refuses the next one until then.

        Raises:
            PluginError: it failed.
        """
        update = response["update"]
        while update["status"] == "InProgress":
            context.request.say(f"{update.get('type', 'update')} in progress")
            context.request.pause(_UPDATE_PAUSE_SECONDS)
            update = context.call("eks", "describe_update", updateId=update["id"], **names)["update"]
        if update["status"] != "Successful":
            reasons = [f"{item['errorCode']}: {item['errorMessage']}" for item in update.get("errors") or ()]
            raise PluginError(f"{update.get('type', 'update')} {update['status']}: {'; '.join(reasons)}")


class Cluster(EksType):
    """A cluster's control plane."""

    pulumi_type = "aws:eks/cluster:Cluster"
    creates = Operation("create_cluster", result="cluster.name")
    reads = Operation("describe_cluster", key="name", result="cluster")
    deletes = Operation("delete_cluster", key="name")
    status = Status("status", frozenset({"ACTIVE"}), frozenset({"FAILED"}), "health.issues[].message")
    renames: ClassVar = {"vpcConfig": "resourcesVpcConfig"}
    name_property = "name"
    name_limit = 100
    extra = frozenset({"enabledClusterLogTypes"})
    local = frozenset({"forceUpdateVersion", "defaultAddonsToRemoves"})
    in_place: ClassVar = {
        "version": "set_version",
        "accessConfig.authenticationMode": "set_access",
        "vpcConfig.endpointPrivateAccess": "set_endpoints",
        "vpcConfig.endpointPublicAccess": "set_endpoints",
        "vpcConfig.publicAccessCidrs": "set_endpoints",
        "vpcConfig.subnetIds": "set_subnets",
        "vpcConfig.securityGroupIds": "set_subnets",
        "enabledClusterLogTypes": "set_logging",
        "deletionProtection": "set_protection",
        "upgradePolicy": "set_upgrade_policy",
        "zonalShiftConfig": "set_zonal_shift",
        "encryptionConfig": "set_encryption",
    }

    def is_in_place(self, path: str, kind: str) -> bool:
        """Secrets that are encrypted stay so: AWS takes a key, and gives none back."""
        return (path, kind) != ("encryptionConfig", "delete") and super().is_in_place(path, kind)

    def _logging(self, context: Context) -> dict[str, Any]:
        kinds = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
        wanted = context.inputs.get("enabledClusterLogTypes") or []
        setups = [
            {"types": [kind for kind in kinds if kind in wanted], "enabled": True},
            {"types": [kind for kind in kinds if kind not in wanted], "enabled": False},
        ]
        return {"clusterLogging": [setup for setup in setups if setup["types"]]}

    def parameters(self, context: Context) -> dict[str, Any]:
        """The kinds of log are nested deeper in the API."""
        parameters = super().parameters(context)
        if context.inputs.get("enabledClusterLogTypes"):
            parameters["logging"] = self._logging(context)
        return parameters

    def _configure(self, context: Context, id_: str, **change: Any) -> None:
        """Change one thing: AWS takes one kind of change in a call."""
        response = context.call("eks", "update_cluster_config", name=id_, **change)
        self.finish(context, response, name=id_)

    def _network(self, context: Context, names: Collection[str]) -> dict[str, Any]:
        wanted: dict[str, Any] = self.parameters(context)["resourcesVpcConfig"]
        return {"resourcesVpcConfig": {key: value for key, value in wanted.items() if key in names}}

    def set_version(self, context: Context, id_: str) -> None:
        """Upgrade the control plane."""
        force = truth(context.inputs.get("forceUpdateVersion", False))
        if version := context.inputs.get("version"):
            response = context.call("eks", "update_cluster_version", name=id_, version=version, force=force)
            self.finish(context, response, name=id_)

    def set_access(self, context: Context, id_: str) -> None:
        """Change how callers are authenticated."""
        mode = (context.inputs.get("accessConfig") or {}).get("authenticationMode")
        if mode:
            self._configure(context, id_, accessConfig={"authenticationMode": mode})

    def set_endpoints(self, context: Context, id_: str) -> None:
        """Change from where the API can be reached."""
        names = {"endpointPrivateAccess", "endpointPublicAccess", "publicAccessCidrs"}
        self._configure(context, id_, **self._network(context, names))

    def set_subnets(self, context: Context, id_: str) -> None:
        """Change where the control plane's interfaces are."""
        self._configure(context, id_, **self._network(context, {"subnetIds", "securityGroupIds"}))

    def set_logging(self, context: Context, id_: str) -> None:
        """Change what the control plane logs."""
        self._configure(context, id_, logging=self._logging(context))

    def set_protection(self, context: Context, id_: str) -> None:
        """Change whether the cluster can be deleted."""
        wanted = truth(context.inputs.get("deletionProtection", False))
        self._configure(context, id_, deletionProtection=wanted)

    def set_encryption(self, context: Context, id_: str) -> None:
        """Encrypt secrets with a key."""
        wanted = self.parameters(context)["encryptionConfig"]
        response = context.call(
            "eks", "associate_encryption_config", clusterName=id_, encryptionConfig=wanted
        )
        self.finish(context, response, name=id_)

    def set_upgrade_policy(self, context: Context, id_: str) -> None:
        """Change what happens when the version's standard support ends."""
        self._configure(
            context, id_, upgradePolicy=context.inputs.get("upgradePolicy") or {"supportType": "EXTENDED"}
        )

    def set_zonal_shift(self, context: Context, id_: str) -> None:
        """Change whether AWS may shift traffic out of a zone."""
        self._configure(
            context, id_, zonalShiftConfig=context.inputs.get("zonalShiftConfig") or {"enabled": False}
        )

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the kinds of log and the issuer."""
        del context
        setups = (found.get("logging") or {}).get("clusterLogging") or ()
        enabled = [kind for setup in setups if setup.get("enabled") for kind in setup.get("types") or ()]
        issuer = ((found.get("identity") or {}).get("oidc") or {}).get("issuer", "")
        return {
            "enabledClusterLogTypes": enabled,
            "identities": [{"oidcs": [{"issuer": issuer}]}],
            "name": id_,
        }
