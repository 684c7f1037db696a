"""Calls to a Kubernetes API: discovery, objects, server-side apply, and errors as one line."""

from __future__ import annotations

import functools
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from sandbox.plugins.errors import PluginError
from sandbox.plugins.kubernetes.kubeconfig import Kubeconfig, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELD_MANAGER: Final = "pulumi-kubernetes"
_TIMEOUT_SECONDS: Final = 60.0
_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.5
_APPLY: Final = "application/apply-patch+yaml"


class ApiError(PluginError):
    """The API refused a call.

    Args:
        status: the HTTP status.
        reason: the API's reason, such as `NotFound`.
        message: the API's message.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason or status}: {' '.join(message.split())}")
        self.status, self.reason, self.message = status, reason, message


class UnreachableError(PluginError):
    """The API does not answer."""


class UnknownKindError(PluginError):
    """The API does not serve a kind."""


@dataclass(frozen=True)
class Kind:
    """A kind of object, as the API serves it.

    Args:
        api_version: group and version, `apps/v1`.
        kind: the kind, `Deployment`.
        plural: what it is called in paths.
        namespaced: whether its objects are in namespaces.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of an object, or of all in a namespace."""
        parts = [_root(self.api_version)]
        if self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


class Cluster:
    """A Kubernetes API as one user."""

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self.kubeconfig = kubeconfig
        self._token = Token(kubeconfig.user, kubeconfig.server)
        self._kinds: dict[str, dict[str, Kind]] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.kubeconfig.server,
            verify=self.kubeconfig.tls() if self.kubeconfig.server.startswith("https") else True,
            timeout=_TIMEOUT_SECONDS,
            limits=httpx.Limits(max_connections=64),
            trust_env=False,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> httpx.Response:
        """Call the API.

        Raises:
            ApiError: it refused.
            UnreachableError: it does not answer.
        """
        response = self._send(method, path, params, body, content_type)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            # The token may have been made before the access entry that lets it in.
            self._token.forget()
            response = self._send(method, path, params, body, content_type)
        if response.is_error:
            raise _error(response)
        return response

    def _send(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Any, content_type: str
    ) -> httpx.Response:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if token := self._token.get():
            headers["Authorization"] = f"Bearer {token}"
        content = None if body is None else json.dumps(body)
        for attempt in range(_ATTEMPTS):
            try:
                return self._client.request(method, path, params=params, content=content, headers=headers)
            except httpx.HTTPError as error:
                # All calls made here can be made again; one that was answered late is not worth another wait.
                if attempt < _ATTEMPTS - 1 and isinstance(error, (httpx.NetworkError, httpx.ProtocolError)):
                    time.sleep(_PAUSE_SECONDS)
                    continue
                words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise UnreachableError(
                    f"the Kubernetes API at {self.kubeconfig.server} does not answer: {words}"
                ) from error
        raise AssertionError("the last attempt returns or raises")

    def kind(self, api_version: str, kind: str) -> Kind:
        """Find out how the API serves a kind.

        Raises:
            UnknownKindError: it does not serve it.
        """
        with self._lock:
            if kind not in self._kinds.get(api_version, {}):
                self._kinds[api_version] = self._discover(api_version)
            found = self._kinds[api_version].get(kind)
        if found is None:
            raise UnknownKindError(f'no matches for kind "{kind}" in version "{api_version}"')
        return found

    def _discover(self, api_version: str) -> dict[str, Kind]:
        try:
            resources = self.request("GET", _root(api_version)).json()["resources"]
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return {}
            raise
        return {
            item["kind"]: Kind(api_version, item["kind"], item["name"], item["namespaced"])
            for item in resources
            if "/" not in item["name"]
        }

    def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """Return an object, or None where it does not exist."""
        try:
            found: dict[str, Any] = self.request("GET", kind.path(namespace, name)).json()
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, namespace: str, **params: str) -> list[dict[str, Any]]:
        """Return the objects of a kind in a namespace; parameters such as `labelSelector` narrow them."""
        found = self.request("GET", self.kind(api_version, kind).path(namespace), params=params).json()
        items: list[dict[str, Any]] = found["items"]
        return items

    def apply(
        self, kind: Kind, namespace: str | None, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Apply an object on the server; what another manager has set is taken over."""
        params = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        path = kind.path(namespace, body["metadata"]["name"])
        applied: dict[str, Any] = self.request(
            "PATCH", path, params=params, body=body, content_type=_APPLY
        ).json()
        return applied

    def validate(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> None:
        """Have the server check an object without making it.

        Raises:
            ApiError: it refuses it.
        """
        params = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
        self.request("POST", kind.path(namespace), params=params, body=body)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object, after all that it owns."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        self.request("DELETE", kind.path(namespace, name), body=body)

    def log_tail(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """Return the last lines of a container's log; empty where there is none."""
        params = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params=params).text
        except ApiError:
            return ""


def _error(response: httpx.Response) -> ApiError:
    try:
        status = response.json()
        reason, message = status.get("reason", ""), status.get("message", "")
    except ValueError:
        reason, message = response.reason_phrase, response.text[:500]
    return ApiError(response.status_code, reason, message)
