"""Managed node groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.services.eks import EksType
from sandbox.plugins.aws.types import Context, Operation, Status
from sandbox.plugins.differences import top_level
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.engine.values import Properties


class NodeGroup(EksType):
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
    _SETTINGS: ClassVar = frozenset(
        {"labels", "nodeRepairConfig", "scalingConfig", "taints", "updateConfig", "warmPoolConfig"}
    )
    _VERSIONS = ("launchTemplate.version", "releaseVersion", "version")
    in_place: ClassVar = {**dict.fromkeys(_SETTINGS, "configure"), **dict.fromkeys(_VERSIONS, "set_version")}

    def parameters(self, context: Context) -> dict[str, Any]:
        """A warm pool that is described is wanted."""
        parameters = super().parameters(context)
        if "warmPoolConfig" in parameters:
            parameters["warmPoolConfig"] = {"enabled": True, **parameters["warmPoolConfig"]}
        return parameters

    def update(self, context: Context, id_: str, paths: Collection[str]) -> None:
        """Change settings in one call, and only those that differ.

        What does not differ is not sent, as by the official provider: an autoscaler may have changed the
        number of nodes since.
        """
        changed = {top_level(path) for path in paths}
        if changed & {"launchTemplate", "releaseVersion", "version"}:
            self.set_version(context, id_)
        if settings := changed & self._SETTINGS:
            self.configure(context, id_, settings)

    def configure(self, context: Context, id_: str, settings: Collection[str]) -> None:
        """Change settings; the operation takes labels and taints as changes, and removes nothing else."""
        found = self.read(context, id_) or {}
        wanted = self.parameters(context)
        off = {"nodeRepairConfig": {"enabled": False}, "warmPoolConfig": {"enabled": False}}
        changes: dict[str, Any] = {
            key: wanted.get(key, off.get(key)) for key in settings if key not in {"labels", "taints"}
        }
        labels, old_labels = wanted.get("labels") or {}, found.get("labels") or {}
        removed = sorted(old_labels.keys() - labels.keys())
        if labels != old_labels:
            changes["labels"] = _without_empty({"addOrUpdateLabels": labels, "removeLabels": removed})
        taints, old_taints = wanted.get("taints") or [], found.get("taints") or []
        if not shapes.same(taints, old_taints):
            gone = [taint for taint in old_taints if taint not in taints]
            changes["taints"] = _without_empty({"addOrUpdateTaints": taints, "removeTaints": gone})
        changes = _without_empty(changes)
        if not changes:
            return
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
