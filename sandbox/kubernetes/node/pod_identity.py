"""EKS Pod Identity: what its webhook adds to a pod whose service account has an association.

The webhook does so when a pod is made, the node when the pod starts; the API does not show it. The
credentials themselves come from the sandbox's AWS, which checks the pod's token, in the place of the agent
that runs on a real node.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import httpx

from sandbox.kubernetes.bootstrap import POD_IDENTITY_AUDIENCE

if TYPE_CHECKING:
    from sandbox.kubernetes.node.api import Object

_VOLUME = "eks-pod-identity-token"
_FOLDER = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
_TOKEN_SECONDS = 86400
_ASK_SECONDS = 10.0


class PodIdentityError(RuntimeError):
    """The sandbox's AWS does not say whether a service account has an association."""


class PodIdentity:
    """The associations of one cluster.

    Args:
        aws: URL of the sandbox's AWS.
        cluster: the cluster's name; without one there are no associations.
        region: the region that pods are told.
    """

    def __init__(self, aws: str, cluster: str, region: str) -> None:
        self._aws = aws.rstrip("/")
        self._cluster = cluster
        self._region = region

    def inject(self, pod: Object) -> Object:
        """Return the pod with its token and the variables that AWS's clients look for, or as it is.

        Raises:
            PodIdentityError: nobody says whether there is an association.
        """
        if not self._cluster or not self._associated(pod):
            return pod
        changed = copy.deepcopy(pod)
        spec = changed["spec"]
        source = {
            "audience": POD_IDENTITY_AUDIENCE,
            "expirationSeconds": _TOKEN_SECONDS,
            "path": _VOLUME,
        }
        volume = {"name": _VOLUME, "projected": {"sources": [{"serviceAccountToken": source}]}}
        spec["volumes"] = [*(spec.get("volumes") or ()), volume]
        mount = {"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True}
        for group in ("initContainers", "containers"):
            for container in spec.get(group) or ():
                container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
                own = container.get("env") or []
                names = {entry["name"] for entry in own}
                # As the webhook does, what the pod's author has set is left alone.
                added = [
                    {"name": name, "value": value}
                    for name, value in self._variables().items()
                    if name not in names
                ]
                container["env"] = [*own, *added]
        return changed

    def _variables(self) -> dict[str, str]:
        return {
            "AWS_STS_REGIONAL_ENDPOINTS": "regional",
            "AWS_DEFAULT_REGION": self._region,
            "AWS_REGION": self._region,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": (
                f"{self._aws}/_sandbox/eks/{self._cluster}/pod-identity-credentials"
            ),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": f"{_FOLDER}/{_VOLUME}",
            # The public names of AWS lead to the sandbox.
            "AWS_ENDPOINT_URL": self._aws,
        }

    def _associated(self, pod: Object) -> bool:
        namespace = pod["metadata"]["namespace"]
        account = pod["spec"].get("serviceAccountName", "default")
        url = f"{self._aws}/_sandbox/eks/{self._cluster}/pod-identity/{namespace}/{account}"
        try:
            response = httpx.get(url, timeout=_ASK_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise PodIdentityError(f"{url}: {error}") from error
        if response.status_code == 404:
            return False
        if not response.is_success:
            raise PodIdentityError(f"{url}: HTTP {response.status_code}")
        return True
