"""Add-ons of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.services.eks import EksType
from sandbox.plugins.aws.types import Context, Operation, Status
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class Addon(EksType):
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
        """Send the whole add-on; what is no longer given is taken back."""
        wanted = self.parameters(context)
        names = self.split(self.reads, id_)
        changes: dict[str, Any] = {
            "configurationValues": wanted.get("configurationValues", "{}"),
            "podIdentityAssociations": wanted.get("podIdentityAssociations", []),
        }
        for key in ("addonVersion", "serviceAccountRoleArn"):
            if key in wanted:
                changes[key] = wanted[key]
        if resolution := context.inputs.get("resolveConflictsOnUpdate"):
            changes["resolveConflicts"] = resolution
        response = context.call("eks", "update_addon", **names, **changes)
        self.finish(context, response, name=names["clusterName"], addonName=names["addonName"])

    def delete(self, context: Context, id_: str) -> None:
        """Leave what the add-on runs where that is asked for."""
        preserve = truth(context.inputs.get("preserve", False))
        context.call("eks", "delete_addon", **self.split(self.deletes, id_), preserve=preserve)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The API gives the associations as ARNs only, each of which it describes."""
        cluster = id_.partition(":")[0]
        associations = []
        for arn in found.get("podIdentityAssociations") or ():
            name = str(arn).rpartition("/")[2]
            response = context.call(
                "eks", "describe_pod_identity_association", clusterName=cluster, associationId=name
            )
            keys = ("roleArn", "serviceAccount")
            associations.append({key: response["association"][key] for key in keys})
        return {"podIdentityAssociations": associations}
