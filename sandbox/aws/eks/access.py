# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The operations on access entries, their policies, and pod identities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.moto_api._internal import mock_random

from sandbox.aws.eks import catalogue
from sandbox.aws.eks.base import EksBase, page
from sandbox.aws.errors import AwsError
from sandbox.aws.service import trusts

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.aws.eks.state import Cluster

_NODE_TYPES = {"EC2_LINUX", "EC2_WINDOWS", "EC2", "FARGATE_LINUX", "HYBRID_LINUX", "HYPERPOD_LINUX"}


class Access(EksBase):
    """Who may use a cluster's Kubernetes API, and what its pods may do in AWS."""

    def _cluster_with_entries(self, name: str) -> Cluster:
        cluster = self.active_cluster(name)
        if cluster.data["accessConfig"]["authenticationMode"] == "CONFIG_MAP":
            raise AwsError(
                "InvalidRequestException",
                "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to "
                "perform this operation.",
            )
        return cluster

    def _entry(self, cluster: Cluster, principal_arn: str) -> dict[str, Any]:
        entry = cluster.access_entries.get(principal_arn)
        if entry is None:
            raise AwsError(
                "ResourceNotFoundException",
                "The specified principalArn could not be found. You can view your available access entries "
                "with 'list-access-entries'.",
            )
        return entry

    def create_access_entry(self, clusterName: str, principalArn: str, **options: Any) -> dict[str, Any]:
        cluster = self._cluster_with_entries(clusterName)
        if principalArn in cluster.access_entries:
            raise AwsError(
                "ResourceInUseException",
                "The specified access entry resource is already in use on this cluster.",
            )
        if ":iam::" not in principalArn or (":role/" not in principalArn and ":user/" not in principalArn):
            raise self.invalid("The principalArn parameter format is not valid")
        kind = options.get("type", "STANDARD")
        if kind != "STANDARD" and kind not in _NODE_TYPES:
            raise self.invalid(f"The type {kind} is not a valid access entry type")
        groups = options.get("kubernetesGroups", [])
        for group in groups:
            if group.startswith(("system:", "eks:", "amazon:", "aws:", "iam:")):
                raise self.invalid(
                    f"The kubernetes group name {group} is invalid, it cannot start with a reserved prefix"
                )
        entry = self.make_access_entry(
            cluster, principalArn, kind, groups, options.get("username"), options.get("tags", {})
        )
        return {"accessEntry": entry}

    def make_access_entry(
        self,
        cluster: Cluster,
        principal_arn: str,
        kind: str,
        groups: list[str],
        username: str | None,
        tags: dict[str, str],
    ) -> dict[str, Any]:
        """Make an access entry that has been checked; node entries get their fixed username and group."""
        if kind in _NODE_TYPES:
            groups, username = ["system:nodes"], "system:node:{{EC2PrivateDNSName}}"
        elif username is None:
            username = principal_arn
            if ":role/" in principal_arn:
                name = principal_arn.rpartition("/")[2]
                username = f"arn:aws:sts::{self.account_id}:assumed-role/{name}/{{{{SessionName}}}}"
        now = self.cloud.now()
        entry = {
            "clusterName": cluster.name,
            "principalArn": principal_arn,
            "kubernetesGroups": groups,
            "accessEntryArn": self.arn(f"access-entry/{cluster.name}/{mock_random.uuid4()}"),
            "createdAt": now,
            "modifiedAt": now,
            "tags": tags,
            "username": username,
            "type": kind,
        }
        cluster.access_entries[principal_arn] = entry
        cluster.access_policies[principal_arn] = {}
        return entry

    def describe_access_entry(self, clusterName: str, principalArn: str) -> dict[str, Any]:
        return {"accessEntry": self._entry(self.cluster_of(clusterName), principalArn)}

    def update_access_entry(self, clusterName: str, principalArn: str, **changes: Any) -> dict[str, Any]:
        entry = self._entry(self._cluster_with_entries(clusterName), principalArn)
        if entry["type"] != "STANDARD":
            raise AwsError("InvalidRequestException", "Only access entries of type STANDARD can be updated")
        entry.update({key: changes[key] for key in ("kubernetesGroups", "username") if key in changes})
        entry["modifiedAt"] = self.cloud.now()
        return {"accessEntry": entry}

    def delete_access_entry(self, clusterName: str, principalArn: str) -> None:
        cluster = self._cluster_with_entries(clusterName)
        self._entry(cluster, principalArn)
        del cluster.access_entries[principalArn]
        cluster.access_policies.pop(principalArn, None)

    def list_access_entries(
        self, clusterName: str, associatedPolicyArn: str | None = None, **_: Any
    ) -> dict[str, Any]:
        cluster = self.cluster_of(clusterName)
        return page(
            "accessEntries",
            [
                arn
                for arn in cluster.access_entries
                if associatedPolicyArn is None or associatedPolicyArn in cluster.access_policies.get(arn, {})
            ],
        )

    def list_access_policies(self, **_: Any) -> dict[str, Any]:
        return page(
            "accessPolicies",
            [{"name": name, "arn": catalogue.POLICY_PREFIX + name} for name in catalogue.ACCESS_POLICIES],
        )

    def associate_access_policy(
        self, clusterName: str, principalArn: str, policyArn: str, accessScope: dict[str, Any]
    ) -> dict[str, Any]:
        cluster = self._cluster_with_entries(clusterName)
        entry = self._entry(cluster, principalArn)
        if policyArn.removeprefix(catalogue.POLICY_PREFIX) not in catalogue.ACCESS_POLICIES:
            raise self.invalid(
                "The policyArn parameter format is not valid or the policy does not exist. You can view "
                "available policies with 'list-access-policies'."
            )
        if entry["type"] != "STANDARD":
            raise AwsError(
                "InvalidRequestException", f"Access policies cannot be associated with {entry['type']}"
            )
        namespaces = accessScope.get("namespaces", [])
        if (accessScope.get("type") == "namespace") != bool(namespaces):
            raise self.invalid("Namespaces must be given for the scope type 'namespace', and only for it")
        now = self.cloud.now()
        held = cluster.access_policies[principalArn]
        held[policyArn] = {
            "policyArn": policyArn,
            "accessScope": {"type": accessScope.get("type", "cluster"), "namespaces": namespaces},
            "associatedAt": held.get(policyArn, {}).get("associatedAt", now),
            "modifiedAt": now,
        }
        return {
            "clusterName": clusterName,
            "principalArn": principalArn,
            "associatedAccessPolicy": held[policyArn],
        }

    def disassociate_access_policy(self, clusterName: str, principalArn: str, policyArn: str) -> None:
        cluster = self._cluster_with_entries(clusterName)
        self._entry(cluster, principalArn)
        if cluster.access_policies[principalArn].pop(policyArn, None) is None:
            raise AwsError(
                "ResourceNotFoundException", "No associated access policy found for the principalArn"
            )

    def list_associated_access_policies(
        self, clusterName: str, principalArn: str, **_: Any
    ) -> dict[str, Any]:
        cluster = self.cluster_of(clusterName)
        self._entry(cluster, principalArn)
        return {
            "clusterName": clusterName,
            "principalArn": principalArn,
            "associatedAccessPolicies": list(cluster.access_policies[principalArn].values()),
        }

    def create_pod_identity_association(
        self, clusterName: str, namespace: str, serviceAccount: str, roleArn: str, **options: Any
    ) -> dict[str, Any]:
        cluster = self.active_cluster(clusterName)
        self.check_association(cluster, namespace, serviceAccount, roleArn)
        kept = ("disableSessionTags", "targetRoleArn", "tags")
        extra = {key: options[key] for key in kept if key in options}
        return {"association": self.associate(cluster, namespace, serviceAccount, roleArn, extra)}

    def check_association(
        self,
        cluster: Cluster,
        namespace: str,
        service_account: str,
        role_arn: str,
        but: Collection[str] = (),
    ) -> None:
        """Refuse a pod identity association that cannot be.

        Args:
            cluster: its cluster.
            namespace: the service account's namespace.
            service_account: the service account's name.
            role_arn: what its pods are to be.
            but: ids of associations that are about to go.

        Raises:
            AwsError: there is one already, or pods may not assume the role.
        """
        for identity, each in cluster.pod_identities.items():
            if identity not in but and (each["namespace"], each["serviceAccount"]) == (
                namespace,
                service_account,
            ):
                raise AwsError("ResourceInUseException", f"Association already exists: {identity}")
        self.check_pod_role(role_arn)

    def check_pod_role(self, role_arn: str) -> None:
        """Refuse a role that is not there, or that pods may not assume.

        Raises:
            AwsError: as EKS says it.
        """
        if not trusts(role_arn, "pods.eks.amazonaws.com", {"sts:AssumeRole", "sts:TagSession"}):
            raise self.invalid(
                "Trust policy of the role provided is invalid. Follow the official documentation to resolve "
                "the issue."
            )

    def associate(
        self,
        cluster: Cluster,
        namespace: str,
        service_account: str,
        role_arn: str,
        extra: dict[str, Any],
    ) -> dict[str, Any]:
        """Make a pod identity association that has been checked."""
        identity = f"a-{mock_random.get_random_hex(17)}"
        now = self.cloud.now()
        made = {
            "clusterName": cluster.name,
            "namespace": namespace,
            "serviceAccount": service_account,
            "roleArn": role_arn,
            "associationArn": self.arn(f"podidentityassociation/{cluster.name}/{identity}"),
            "associationId": identity,
            "tags": {},
            "createdAt": now,
            "modifiedAt": now,
            **extra,
        }
        cluster.pod_identities[identity] = made
        return made

    def _identity(self, cluster_name: str, association_id: str) -> dict[str, Any]:
        identity = self.cluster_of(cluster_name).pod_identities.get(association_id)
        if identity is None:
            raise AwsError("ResourceNotFoundException", f"No association found for id: {association_id}")
        return identity

    def describe_pod_identity_association(self, clusterName: str, associationId: str) -> dict[str, Any]:
        return {"association": self._identity(clusterName, associationId)}

    def _own_identity(self, cluster_name: str, association_id: str) -> dict[str, Any]:
        identity = self._identity(cluster_name, association_id)
        if "ownerArn" in identity:
            raise AwsError(
                "InvalidRequestException",
                f"Association {association_id} is owned by {identity['ownerArn']} and can be changed "
                "through it only",
            )
        return identity

    def update_pod_identity_association(
        self, clusterName: str, associationId: str, **changes: Any
    ) -> dict[str, Any]:
        identity = self._own_identity(clusterName, associationId)
        if "roleArn" in changes:
            self.check_pod_role(changes["roleArn"])
        changes.pop("clientRequestToken", None)
        identity.update(changes, modifiedAt=self.cloud.now())
        return {"association": identity}

    def delete_pod_identity_association(self, clusterName: str, associationId: str) -> dict[str, Any]:
        identity = self._own_identity(clusterName, associationId)
        del self.cluster_of(clusterName).pod_identities[associationId]
        return {"association": identity}

    def list_pod_identity_associations(
        self, clusterName: str, namespace: str | None = None, serviceAccount: str | None = None, **_: Any
    ) -> dict[str, Any]:
        return page(
            "associations",
            [
                each
                for each in self.cluster_of(clusterName).pod_identities.values()
                if namespace in {None, each["namespace"]} and serviceAccount in {None, each["serviceAccount"]}
            ],
        )
