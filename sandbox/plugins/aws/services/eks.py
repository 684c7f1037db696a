"""EKS clusters, node groups, add-ons and access entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import Context, Operation, Status, Type
from sandbox.plugins.errors import PluginError
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.engine.values import Properties

_UPDATE_PAUSE_SECONDS = 0.5


class _EksType(Type):
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


class Cluster(_EksType):
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
    }

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
        response = context.call(
            "eks", "update_cluster_version", name=id_, version=context.inputs["version"], force=force
        )
        self.finish(context, response, name=id_)

    def set_access(self, context: Context, id_: str) -> None:
        """Change how callers are authenticated."""
        mode = context.inputs["accessConfig"]["authenticationMode"]
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


class NodeGroup(_EksType):
    """A managed node group; its id is the cluster and its name."""

    pulumi_type = "aws:eks/nodeGroup:NodeGroup"
    creates = Operation("create_nodegroup", result="nodegroup.join(':', [clusterName, nodegroupName])")
    reads = Operation("describe_nodegroup", key="clusterName nodegroupName", result="nodegroup")
    deletes = Operation("delete_nodegroup", key="clusterName nodegroupName")
    status = Status(
        "status",
        frozenset({"ACTIVE"}),
        frozenset({"CREATE_FAILED", "DEGRADED"}),
        "health.issues[].join(': ', [code, message])",
    )
    renames: ClassVar = {
        "arn": "nodegroupArn", "nodeGroupName": "nodegroupName", "nodeRoleArn": "nodeRole",
        "subnetIds": "subnets", "autoscalingGroups": "autoScalingGroups",
    }  # fmt: skip
    name_property = "nodeGroupName"
    name_limit = 63
    local = frozenset({"forceUpdateVersion"})
    in_place: ClassVar = {
        "scalingConfig": "configure",
        "labels": "configure",
        "taints": "configure",
        "updateConfig": "configure",
        "nodeRepairConfig": "configure",
        "warmPoolConfig": "configure",
        "launchTemplate.version": "set_version",
        "version": "set_version",
        "releaseVersion": "set_version",
    }

    def configure(self, context: Context, id_: str) -> None:
        """Change sizes, labels and taints; the operation takes labels and taints as changes."""
        found = self.read(context, id_) or {}
        wanted = self.parameters(context)
        changes: dict[str, Any] = {
            key: wanted[key]
            for key in ("scalingConfig", "updateConfig", "nodeRepairConfig", "warmPoolConfig")
            if key in wanted
        }
        labels, old_labels = wanted.get("labels") or {}, found.get("labels") or {}
        removed = sorted(old_labels.keys() - labels.keys())
        if labels != old_labels:
            changes["labels"] = _without_empty({"addOrUpdateLabels": labels, "removeLabels": removed})
        taints, old_taints = wanted.get("taints") or [], found.get("taints") or []
        if not shapes.same(taints, old_taints):
            gone = [taint for taint in old_taints if taint not in taints]
            changes["taints"] = _without_empty({"addOrUpdateTaints": taints, "removeTaints": gone})
        names = self.split(self.reads, id_)
        response = context.call("eks", "update_nodegroup_config", **names, **changes)
        self.finish(context, response, name=names["clusterName"], nodegroupName=names["nodegroupName"])

    def set_version(self, context: Context, id_: str) -> None:
        """Roll the nodes to another version of their image or launch template."""
        wanted = self.parameters(context)
        names = self.split(self.reads, id_)
        changes = {
            key: wanted[key] for key in ("version", "releaseVersion", "launchTemplate") if key in wanted
        }
        force = truth(context.inputs.get("forceUpdateVersion", False))
        response = context.call("eks", "update_nodegroup_version", **names, **changes, force=force)
        self.finish(context, response, name=names["clusterName"], nodegroupName=names["nodegroupName"])

    def existing(self, context: Context) -> str:
        """Node groups are named within their cluster."""
        return f"{context.inputs['clusterName']}:{context.inputs['nodeGroupName']}"

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The official provider has a list of one for the resources."""
        resources = found.get("resources") or {}
        return super().outputs(context, id_, {**found, "resources": [resources] if resources else []})


def _without_empty(change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in change.items() if value}


class Addon(_EksType):
    """An add-on of a cluster; its id is the cluster and its name."""

    pulumi_type = "aws:eks/addon:Addon"
    creates = Operation("create_addon", result="addon.join(':', [clusterName, addonName])")
    reads = Operation("describe_addon", key="clusterName addonName", result="addon")
    deletes = Operation("delete_addon", key="clusterName addonName")
    status = Status(
        "status",
        frozenset({"ACTIVE"}),
        frozenset({"CREATE_FAILED", "UPDATE_FAILED"}),
        "health.issues[].join(': ', [code, message])",
    )
    renames: ClassVar = {"arn": "addonArn", "resolveConflictsOnCreate": "resolveConflicts"}
    exclusive = True
    local = frozenset({"preserve", "resolveConflictsOnCreate", "resolveConflictsOnUpdate"})
    in_place: ClassVar = dict.fromkeys(
        ("addonVersion", "configurationValues", "podIdentityAssociations", "serviceAccountRoleArn"), "change"
    )

    def existing(self, context: Context) -> str:
        """A cluster has one add-on of a name."""
        return f"{context.inputs['clusterName']}:{context.inputs['addonName']}"

    def change(self, context: Context, id_: str) -> None:
        """Send the whole add-on."""
        wanted = self.parameters(context)
        names = self.split(self.reads, id_)
        keys = ("addonVersion", "configurationValues", "podIdentityAssociations", "serviceAccountRoleArn")
        changes = {key: wanted[key] for key in keys if key in wanted}
        if resolution := context.inputs.get("resolveConflictsOnUpdate"):
            changes["resolveConflicts"] = resolution
        response = context.call("eks", "update_addon", **names, **changes)
        self.finish(context, response, name=names["clusterName"], addonName=names["addonName"])

    def delete(self, context: Context, id_: str) -> None:
        """Leave what the add-on runs where that is asked for."""
        preserve = truth(context.inputs.get("preserve", False))
        context.call("eks", "delete_addon", **self.split(self.deletes, id_), preserve=preserve)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The API gives the associations as ARNs only; their parts stay as they were given."""
        del id_, found
        return {"podIdentityAssociations": context.inputs.get("podIdentityAssociations") or []}


class AccessEntry(_EksType):
    """Lets a principal into a cluster; its id is the cluster and the principal."""

    pulumi_type = "aws:eks/accessEntry:AccessEntry"
    creates = Operation("create_access_entry", result="accessEntry.join(':', [clusterName, principalArn])")
    reads = Operation("describe_access_entry", key="clusterName principalArn", result="accessEntry")
    deletes = Operation("delete_access_entry", key="clusterName principalArn")
    renames: ClassVar = {"userName": "username"}
    exclusive = True
    in_place: ClassVar = {"kubernetesGroups": "change", "userName": "change"}

    def existing(self, context: Context) -> str:
        """A principal has one entry in a cluster."""
        return f"{context.inputs['clusterName']}:{context.inputs['principalArn']}"

    def change(self, context: Context, id_: str) -> None:
        """Set groups and user name."""
        given = context.inputs
        changes: dict[str, Any] = {"kubernetesGroups": given.get("kubernetesGroups") or []}
        if given.get("userName"):
            changes["username"] = given["userName"]
        context.call("eks", "update_access_entry", **self.split(self.reads, id_), **changes)

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """The output is not called `arn` here."""
        del context, id_
        return str(found["accessEntryArn"])


class AccessPolicyAssociation(_EksType):
    """Gives a principal an access policy; its id is the cluster, the principal and the policy."""

    pulumi_type = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    creates = Operation("associate_access_policy")
    reads = Operation("list_associated_access_policies", key="clusterName principalArn")
    deletes = Operation("disassociate_access_policy", key="clusterName principalArn policyArn")
    separator = "#"
    exclusive = True

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Make the id; associating twice is associating once."""
        del response
        return "#".join(str(context.inputs[key]) for key in ("clusterName", "principalArn", "policyArn"))

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the policy among the principal's."""
        cluster, principal, policy = id_.split("#")
        try:
            response = context.call(
                "eks", "list_associated_access_policies", clusterName=cluster, principalArn=principal
            )
        except CloudError as error:
            if error.not_found:
                return None
            raise
        for item in response["associatedAccessPolicies"]:
            if item["policyArn"] == policy:
                return {**item, "clusterName": cluster, "principalArn": principal}
        return None
