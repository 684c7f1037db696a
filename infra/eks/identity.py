"""IAM roles that pods take by EKS Pod Identity: no keys, no OIDC provider, no rights of the machine's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.eks.cluster import Cluster


@dataclass(frozen=True)
class PodRole:
    """A role of one service account of one cluster.

    Attributes:
        namespace: the service account's.
        service_account: its name.
        arn: the role's.
        rights: its policies: whoever uses the role must wait for them, and go before them.
    """

    namespace: str
    service_account: str
    arn: pulumi.Output[str]
    rights: tuple[pulumi.Resource, ...]


def pod_role(
    parent: pulumi.Resource,
    name: str,
    *,
    names: naming.Names,
    cluster: Cluster,
    what: str,
    namespace: str,
    service_account: str,
    managed_policies: Sequence[str] = (),
    statements: pulumi.Input[Sequence[Mapping[str, Any]]] | None = None,
) -> PodRole:
    """Return a role that only this service account of this cluster may take.

    Args:
        parent: the component that needs it.
        name: the logical name.
        names: the stack's names.
        cluster: the cluster.
        what: the role's purpose, for its name.
        namespace: the service account's namespace.
        service_account: its name.
        managed_policies: names of policies managed by AWS.
        statements: the statements of a policy of its own.
    """
    made = aws.iam.Role(
        name,
        name=names.of(what, naming.IAM_ROLE_LENGTH),
        assume_role_policy=cluster.cluster.arn.apply(
            lambda arn: json.dumps(_trust(arn, namespace, service_account))
        ),
        opts=child(parent, delete_before_replace=True),
    )
    rights: list[pulumi.Resource] = [
        aws.iam.RolePolicyAttachment(
            f"{name}-{policy}",
            role=made.name,
            policy_arn=f"arn:aws:iam::aws:policy/{policy}",
            opts=child(parent),
        )
        for policy in managed_policies
    ]
    if statements is not None:
        rights.append(
            aws.iam.RolePolicy(
                f"{name}-policy",
                name=names.of(what, naming.IAM_ROLE_LENGTH),
                role=made.name,
                policy=pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": statements}),
                opts=child(parent, delete_before_replace=True),
            )
        )
    return PodRole(namespace, service_account, made.arn, tuple(rights))


def associate(
    parent: pulumi.Resource,
    name: str,
    *,
    cluster: Cluster,
    role: PodRole,
) -> aws.eks.PodIdentityAssociation:
    """Return the tie between a service account and its role: pods made before it get no credentials.

    Args:
        parent: the component that needs it.
        name: the logical name.
        cluster: the cluster.
        role: the role of the service account.
    """
    return aws.eks.PodIdentityAssociation(
        name,
        cluster_name=cluster.name,
        namespace=role.namespace,
        service_account=role.service_account,
        role_arn=role.arn,
        opts=child(parent, after=role.rights),
    )


def _trust(cluster_arn: str, namespace: str, service_account: str) -> dict[str, Any]:
    # EKS names the pod in tags of the session, and so needs to tag it. By the conditions, whoever may make
    # associations in this account, in any of its clusters, cannot give the role to pods of theirs.
    # Source: EKS user guide, "Create IAM role with trust policy required by EKS Pod Identity".
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
                "Condition": {
                    "StringEquals": {
                        "aws:RequestTag/eks-cluster-arn": cluster_arn,
                        "aws:RequestTag/kubernetes-namespace": namespace,
                        "aws:RequestTag/kubernetes-service-account": service_account,
                    }
                },
            }
        ],
    }
