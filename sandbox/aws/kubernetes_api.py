"""The few calls that EKS makes to a cluster's Kubernetes API, over plain HTTP.

The official client takes seconds of a processor to load, which a drain at short notice does not have.
"""

from __future__ import annotations

import base64
import os
import ssl
from typing import TYPE_CHECKING, Any, Self

import httpx
import yaml

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_SECONDS = 30.0


class ApiError(Exception):
    """The API server refused.

    Args:
        status: the HTTP status.
        reason: its words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class KubernetesApi:
    """A cluster's API, as the administrator of a kubeconfig.

    Args:
        kubeconfig: with one cluster and one user, whose certificates are in it.
    """

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._client = httpx.Client(
            base_url=cluster["server"],
            verify=_context(cluster, user),
            trust_env=False,
            timeout=_TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, **query: str
    ) -> dict[str, Any]:
        """Make one request; a PATCH is a strategic merge.

        Raises:
            ApiError: it is refused, or the server does not answer (status 503).
        """
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        try:
            answer = self._client.request(
                method, path, params=query, json=body, headers={"Content-Type": kind}
            )
        except httpx.TransportError as error:
            raise ApiError(503, str(error)) from error
        if answer.is_error:
            raise ApiError(answer.status_code, answer.text[:500])
        content: dict[str, Any] = answer.json()
        return content


def _context(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    data = base64.b64decode(authority).decode() if authority else None
    context = ssl.create_default_context(cadata=data)
    if "client-certificate-data" in user:
        # OpenSSL reads files only: this one is in memory, and nobody else's.
        with os.fdopen(os.memfd_create("client"), "wb") as file:
            file.write(base64.b64decode(user["client-key-data"]) + b"\n")
            file.write(base64.b64decode(user["client-certificate-data"]))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
