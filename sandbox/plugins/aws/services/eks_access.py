"""Who may use a cluster's API, and which AWS roles its pods have."""

from __future__ import annotations

from typing import Any, ClassVar

from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.services.eks import EksType
from sandbox.plugins.aws.types import Context, Operation


class AccessEntry(EksType):
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


class AccessPolicyAssociation(EksType):
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


class PodIdentityAssociation(EksType):
    """Gives pods of a service account the permissions of a role."""

    pulumi_type = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    creates = Operation("create_pod_identity_association", result="association.associationId")
    reads = Operation("describe_pod_identity_association", result="association")
    deletes = Operation("delete_pod_identity_association")
    exclusive = True
    _CONTENT = ("roleArn", "disableSessionTags", "targetRoleArn", "policy")
    in_place: ClassVar = dict.fromkeys(_CONTENT, "change")

    def _place(self, context: Context, id_: str) -> dict[str, str]:
        """The id is the association's only within its cluster."""
        given = {**context.request.old_outputs, **context.inputs}
        return {"clusterName": str(given["clusterName"]), "associationId": id_}

    def existing(self, context: Context) -> str | None:
        """A service account has one association."""
        place = {key: context.inputs[key] for key in ("clusterName", "namespace", "serviceAccount")}
        found = context.call("eks", "list_pod_identity_associations", **place)["associations"]
        return str(found[0]["associationId"]) if found else None

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Describe it."""
        try:
            response = context.call("eks", self.reads.name, **self._place(context, id_))
        except CloudError as error:
            if error.not_found:
                return None
            raise
        found: dict[str, Any] = response["association"]
        return found

    def change(self, context: Context, id_: str) -> None:
        """Set the role and how it is used."""
        wanted = self.parameters(context)
        changes = {key: wanted[key] for key in self._CONTENT if key in wanted}
        context.call("eks", "update_pod_identity_association", **self._place(context, id_), **changes)

    def delete(self, context: Context, id_: str) -> None:
        """Delete it."""
        context.call("eks", self.deletes.name, **self._place(context, id_))

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """The output is not called `arn` here."""
        del context, id_
        return str(found["associationArn"])
