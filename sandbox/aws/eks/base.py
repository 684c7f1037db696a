"""What all parts of the EKS API share: look-ups, checks, updates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random

from sandbox.aws.cloud import REGION, Cloud
from sandbox.aws.errors import AwsError
from sandbox.aws.service import JsonService, trusts
from sandbox.aws.signing import find_principal

if TYPE_CHECKING:
    from sandbox.aws.eks.state import Cluster, Nodegroup, State
    from sandbox.aws.messages import HttpRequest, HttpResponse


class EksBase(JsonService):
    """State, look-ups and checks.

    Args:
        cloud: the account.
        state: what has been made so far.
    """

    name = "eks"
    invalid_code = "InvalidParameterException"

    def __init__(self, cloud: Cloud, state: State) -> None:
        super().__init__(cloud)
        self.state = state
        self.region = REGION
        self.caller = ""

    def call(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, in its region and for its caller."""
        if request.credential is not None:
            self.region = request.credential[1]
            principal = find_principal(self.account_id, request.credential[0])
            self.caller = iam_arn(principal.arn) if principal else ""
        return super().call(request)

    def cluster_of(self, name: str) -> Cluster:
        """Return a cluster.

        Raises:
            AwsError: there is none of this name.
        """
        cluster = self.state.clusters.get(name)
        if cluster is None:
            raise AwsError("ResourceNotFoundException", f"No cluster found for name: {name}.")
        return cluster

    def active_cluster(self, name: str) -> Cluster:
        """Return a cluster that takes work.

        Raises:
            AwsError: there is none of this name, or it is being made or deleted.
        """
        cluster = self.cluster_of(name)
        if not cluster.active:
            raise AwsError("InvalidRequestException", f"Cluster '{name}' is not in ACTIVE status")
        return cluster

    def nodegroup_of(self, cluster_name: str, name: str) -> Nodegroup:
        """Return a node group.

        Raises:
            AwsError: there is none of this name.
        """
        nodegroup = self.cluster_of(cluster_name).nodegroups.get(name)
        if nodegroup is None:
            raise AwsError("ResourceNotFoundException", f"No node group found for name: {name}.")
        return nodegroup

    def arn(self, resource: str) -> str:
        """Return the ARN of an EKS resource."""
        return f"arn:aws:eks:{self.region}:{self.account_id}:{resource}"

    def check_role(self, arn: str, service: str) -> None:
        """Refuse a role that is not there, or that `service` may not assume.

        Raises:
            AwsError: as EKS says it.
        """
        if trusts(arn, service):
            return
        raise self.invalid(
            f"Role with arn: {arn}, could not be assumed because it does not exist or the trusted entity is "
            "not correct"
        )

    def subnets_of(self, subnet_ids: list[str]) -> list[Any]:
        """Return subnets.

        Raises:
            AwsError: one is not there.
        """
        known = {
            subnet.id: subnet for subnet in ec2_backends[self.account_id][self.region].describe_subnets()
        }
        for subnet_id in subnet_ids:
            if subnet_id not in known:
                raise self.invalid(
                    f"The subnet ID '{subnet_id}' does not exist (Service: AmazonEC2; Status Code: 400; "
                    "Error Code: InvalidSubnetID.NotFound)"
                )
        return [known[subnet_id] for subnet_id in subnet_ids]

    def start_update(
        self, cluster: Cluster, kind: str, params: dict[str, Any], *, done: bool
    ) -> dict[str, Any]:
        """Record an update.

        Args:
            cluster: what is updated, or the cluster of what is updated.
            kind: the update's type.
            params: what changes; values are written as JSON.
            done: whether it has already taken effect.
        """
        update: dict[str, Any] = {
            "id": str(mock_random.uuid4()),
            "status": "Successful" if done else "InProgress",
            "type": kind,
            "params": [
                {
                    "type": key[0].upper() + key[1:],
                    "value": value if isinstance(value, str) else json.dumps(value),
                }
                for key, value in params.items()
            ],
            "createdAt": self.cloud.now(),
            "errors": [],
        }
        cluster.updates[update["id"]] = update
        return update


def iam_arn(arn: str) -> str:
    """Return the IAM principal of a caller: a session's role, or the user itself."""
    if ":assumed-role/" not in arn:
        return arn
    account_id, role_name = arn.split(":")[4], arn.split("/")[1]
    for role in iam_backends[account_id]["aws"].roles.values():
        if role.name == role_name:
            return str(role.arn)
    return f"arn:aws:iam::{account_id}:role/{role_name}"


def page(key: str, items: list[Any]) -> dict[str, Any]:
    """Return a list operation's answer; the sandbox has no lists long enough to be cut."""
    return {key: items}
