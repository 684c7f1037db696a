"""Reviews the tokens of `aws eks get-token` for the API server, as EKS's authenticator does.

A token is a presigned STS GetCallerIdentity request that carries the cluster's name in a signed header.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.eks.base import iam_arn
from sandbox.aws.eks.catalogue import POLICY_PREFIX
from sandbox.aws.errors import AwsError
from sandbox.aws.messages import HttpRequest, HttpResponse, json_response
from sandbox.aws.signing import authenticate

if TYPE_CHECKING:
    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import Cluster, State

_PREFIX = "k8s-aws-v1."
_MAX_EXPIRES_SECONDS = 900


class TokenReviewer:
    """Answers TokenReview requests.

    Args:
        cloud: the account.
        state: EKS's state.
    """

    def __init__(self, cloud: Cloud, state: State) -> None:
        self._cloud = cloud
        self._state = state

    def review(self, cluster_name: str, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        review = request.json()
        spec = review.get("spec")
        token = spec.get("token", "") if isinstance(spec, dict) else ""
        try:
            status = self._cloud.inside(lambda: self._review(cluster_name, token))
        except AwsError as error:
            status = {"authenticated": False, "error": error.message}
        version = review.get("apiVersion", "authentication.k8s.io/v1")
        return json_response(200, {"apiVersion": version, "kind": "TokenReview", "status": status})

    def _review(self, cluster_name: str, token: str) -> dict[str, Any]:
        cluster = self._state.clusters.get(cluster_name)
        if cluster is None:
            raise AwsError("Unauthorized", f"there is no cluster {cluster_name}")
        principal = authenticate(_presigned(cluster_name, token), ACCOUNT_ID)
        if principal is None:
            raise AwsError("Unauthorized", "the token is not signed")
        return {"authenticated": True, "user": self._user(cluster, principal.arn)}

    def _user(self, cluster: Cluster, arn: str) -> dict[str, Any]:
        owner = iam_arn(arn)
        mode = cluster.data["accessConfig"]["authenticationMode"]
        extra = {"arn": [owner], "canonicalArn": [owner], "sessionName": [arn.rpartition("/")[2]]}
        if mode == "CONFIG_MAP":
            if owner != cluster.creator_arn:
                raise AwsError("Unauthorized", f"{owner} is not mapped to a user of cluster {cluster.name}")
            groups = ["eks:AmazonEKSClusterAdminPolicy"]
            return {"username": "kubernetes-admin", "uid": owner, "groups": groups, "extra": extra}
        entry = cluster.access_entries.get(owner)
        if entry is None:
            raise AwsError("Unauthorized", f"{owner} has no access entry in cluster {cluster.name}")
        groups = list(entry["kubernetesGroups"])
        for policy, association in cluster.access_policies.get(owner, {}).items():
            if association["accessScope"]["type"] == "cluster":
                groups.append(f"eks:{policy.removeprefix(POLICY_PREFIX)}")
        username = entry["username"].replace("{{SessionName}}", arn.rpartition("/")[2])
        return {"username": username, "uid": owner, "groups": groups, "extra": extra}


def _presigned(cluster_name: str, token: str) -> HttpRequest:
    """Return the request that a token carries."""
    if not token.startswith(_PREFIX):
        raise AwsError("Unauthorized", f"the token does not start with {_PREFIX}")
    encoded = token.removeprefix(_PREFIX)
    try:
        url = urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
    except ValueError as error:
        raise AwsError("Unauthorized", "the token cannot be decoded") from error
    query = parse_qs(url.query)
    expires = query.get("X-Amz-Expires", [""])[0]
    signed = query.get("X-Amz-SignedHeaders", [""])[0].split(";")
    if query.get("Action") != ["GetCallerIdentity"] or "X-Amz-Signature" not in query:
        raise AwsError("Unauthorized", "the token is not a presigned GetCallerIdentity request")
    if not expires.isdigit() or int(expires) > _MAX_EXPIRES_SECONDS:
        raise AwsError("Unauthorized", f"the token must expire within {_MAX_EXPIRES_SECONDS} seconds")
    if "x-k8s-aws-id" not in signed or "host" not in signed:
        raise AwsError("Unauthorized", "the token does not name its cluster")
    headers = (("host", url.netloc), ("x-k8s-aws-id", cluster_name))
    return HttpRequest("GET", f"{url.path or '/'}?{url.query}", headers)
