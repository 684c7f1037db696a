"""Gives pods the credentials of the role that their service account is associated with.

It stands for both EKS Auth's AssumeRoleForPodIdentity and the agent on the node that calls it:
https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html. The answers are those of a
container credentials provider (https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.sts.models import sts_backends

from sandbox.aws import cluster as runtime
from sandbox.aws.cloud import ACCOUNT_ID, REGION
from sandbox.aws.errors import AwsError
from sandbox.aws.kubernetes_api import ApiError
from sandbox.aws.messages import HttpRequest, HttpResponse, json_response
from sandbox.aws.service import trusts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import State

AUDIENCE = "pods.eks.amazonaws.com"
_SESSION_SECONDS = 6 * 3600
_SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


class PodIdentity:
    """Answers what nodes ask for their pods.

    Args:
        cloud: the account.
        state: EKS's state.
        control_plane: gives the control plane of a cluster, or None while it does not run.
    """

    def __init__(
        self, cloud: Cloud, state: State, control_plane: Callable[[str], runtime.ControlPlane | None]
    ) -> None:
        self._cloud = cloud
        self._state = state
        self._control_plane = control_plane
        cloud.on_event("eks.pod_identity_assumed", self._assume)

    def is_associated(self, cluster: str, namespace: str, service_account: str) -> HttpResponse:
        """Say whether pods of a service account get credentials; where they do not, the status is 404."""
        found = self._cloud.inside(lambda: self._association(cluster, namespace, service_account))
        return json_response(200 if found else 404, {"associated": found is not None})

    def credentials(self, cluster: str, request: HttpRequest) -> HttpResponse:
        """Answer with credentials for the pod whose service account token is in the header Authorization."""
        try:
            user = self._user(cluster, request.header("authorization") or "")
            role = self._cloud.inside(lambda: self._role(cluster, user))
        except AwsError as error:
            return json_response(error.status or 400, {"code": error.code, "message": error.message})
        _, _, account = user["username"].rpartition(":")
        pod = user.get("extra", {}).get("authentication.kubernetes.io/pod-name", [account])[0]
        session = f"eks-{cluster}-{pod}"[:64]
        given = self._cloud.record("eks.pod_identity_assumed", role_arn=role, session=session)
        return json_response(200, {**given, "AccountId": ACCOUNT_ID})

    def _user(self, cluster: str, token: str) -> dict[str, Any]:
        """Return the service account of a token, which the cluster's API server reviews."""
        plane = self._control_plane(cluster)
        if plane is None:
            raise AwsError("ResourceNotFoundException", f"No cluster found for name: {cluster}.", 404)
        try:
            user = runtime.review_token(plane, token, AUDIENCE)
        except ApiError as error:
            message = f"The token cannot be reviewed: {error.reason}"
            raise AwsError("ServiceUnavailableException", message, 503) from error
        if user is None or not user["username"].startswith(_SERVICE_ACCOUNT_PREFIX):
            raise AwsError("InvalidTokenException", "The token included in the request is invalid.", 400)
        return user

    def _role(self, cluster: str, user: dict[str, Any]) -> str:
        """Return the role that a service account is associated with."""
        if not self._has_agent(cluster):
            raise AwsError("ServiceUnavailableException", "No Pod Identity Agent runs on the node.", 503)
        namespace, _, account = user["username"].removeprefix(_SERVICE_ACCOUNT_PREFIX).partition(":")
        found = self._association(cluster, namespace, account)
        if found is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Pod identity association not found for service account {namespace}/{account} in cluster "
                f"{cluster}.",
                404,
            )
        role = str(found["roleArn"])
        if not trusts(role, AUDIENCE, {"sts:AssumeRole", "sts:TagSession"}):
            raise AwsError(
                "AccessDeniedException",
                "Unauthorized Exception! EKS does not have permissions to assume the associated role.",
                403,
            )
        return role

    def _has_agent(self, cluster: str) -> bool:
        found = self._state.clusters.get(cluster)
        return found is not None and "eks-pod-identity-agent" in found.addons

    def _association(self, cluster: str, namespace: str, service_account: str) -> dict[str, Any] | None:
        found = self._state.clusters.get(cluster)
        for each in found.pod_identities.values() if found is not None else ():
            if (each["namespace"], each["serviceAccount"]) == (namespace, service_account):
                return each
        return None

    @staticmethod
    def _assume(role_arn: str, session: str) -> dict[str, str]:
        sts: Any = sts_backends[ACCOUNT_ID]["aws"]
        given = sts.assume_role(REGION, session, role_arn, "", _SESSION_SECONDS, "")
        return {
            "AccessKeyId": given.access_key_id,
            "SecretAccessKey": given.secret_access_key,
            "Token": given.session_token,
            "Expiration": given.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
