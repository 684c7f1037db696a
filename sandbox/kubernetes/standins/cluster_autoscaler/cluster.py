"""The cluster as the autoscaler's service account sees it, and what it writes there."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from sandbox.kubernetes.node.api import Api, ApiError, Object
from sandbox.kubernetes.node.events import timestamp

if TYPE_CHECKING:
    from collections.abc import Generator

_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"
# What the original follows: without the right to list one of them it never begins.
_LISTS = (
    "/api/v1/nodes",
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/api/v1/services",
    "/api/v1/replicationcontrollers",
    "/api/v1/persistentvolumes",
    "/api/v1/persistentvolumeclaims",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/storage.k8s.io/v1/csidrivers",
    "/apis/storage.k8s.io/v1/csinodes",
    "/apis/storage.k8s.io/v1/csistoragecapacities",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/storage.k8s.io/v1/volumeattachments",
)
_SOURCE = {"component": "cluster-autoscaler"}


class _Token(httpx.Auth):
    """The service account's token, read anew for each request: it is renewed in its file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._path.read_text().strip()}"
        yield request


class Cluster:
    """The Kubernetes API by the pod's service account.

    Raises:
        OSError: the pod has no token.
    """

    def __init__(self) -> None:
        folder = Path(os.environ.get("BERTH_MOUNTS", "/")) / _ACCOUNT
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        client = httpx.Client(
            base_url=f"https://{host}:{port}",
            verify=ssl.create_default_context(cafile=str(folder / "ca.crt")),
            auth=_Token(folder / "token"),
            trust_env=False,
            timeout=30,
        )
        self.api = Api(client)

    def check_rights(self) -> None:
        """List all that the original follows.

        Raises:
            ApiError: the account may not list one of them.
        """
        for path in _LISTS:
            self.api.get(path, limit="1")

    def objects(self, path: str) -> list[Object]:
        """Return a list's objects."""
        items: list[Object] = self.api.get(path)["items"]
        return items

    def daemon_sets(self) -> list[Object]:
        """Return all DaemonSets' pod templates, in the form of pods."""
        sets = self.objects("/apis/apps/v1/daemonsets")
        return [{"metadata": each["metadata"], "spec": each["spec"]["template"]["spec"]} for each in sets]

    def taint(self, name: str, key: str, *, cordon: bool) -> None:
        """Keep pods off a node."""
        node = self.api.get(f"/api/v1/nodes/{name}")
        now = str(int(datetime.now(UTC).timestamp()))
        others = [each for each in node["spec"].get("taints") or () if each["key"] != key]
        node["spec"]["taints"] = [*others, {"key": key, "value": now, "effect": "NoSchedule"}]
        if cordon:
            node["spec"]["unschedulable"] = True
        self.api.update(f"/api/v1/nodes/{name}", node)

    def untaint(self, name: str, key: str, *, uncordon: bool) -> None:
        """Let pods onto a node again."""
        node = self.api.get(f"/api/v1/nodes/{name}")
        node["spec"]["taints"] = [each for each in node["spec"].get("taints") or () if each["key"] != key]
        if uncordon:
            node["spec"].pop("unschedulable", None)
        self.api.update(f"/api/v1/nodes/{name}", node)

    def evict(self, pod: Object, grace_seconds: int) -> bool:
        """Ask for a pod's eviction; say whether it was granted (a disruption budget may not allow it yet).

        Raises:
            ApiError: anything else stood against it.
        """
        metadata = pod["metadata"]
        own = pod["spec"].get("terminationGracePeriodSeconds", 30)
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "deleteOptions": {"gracePeriodSeconds": min(own, grace_seconds)},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
        try:
            self.api.create(path, body)
        except ApiError as error:
            if error.status == 404:
                return True
            if error.status == 429:
                return False
            raise
        return True

    def event(self, about: Object, kind: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Report something that concerns an object.

        Args:
            about: the object.
            kind: its kind, as lists do not say it.
            reason: one word.
            message: for people.
            warning: whether it is a Warning and not Normal.
        """
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        now = timestamp()
        reference = {"apiVersion": "v1", "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
        if kind != "Node":
            reference["namespace"] = namespace
        self.api.create(
            f"/api/v1/namespaces/{namespace}/events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{metadata['name']}.", "namespace": namespace},
                "involvedObject": reference,
                "reason": reason,
                "message": message[:1024],
                "type": "Warning" if warning else "Normal",
                "source": _SOURCE,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
        )

    def write(self, path: str, body: Object) -> Object:
        """Make an object, or replace it; return it as it is now."""
        try:
            found = self.api.get(f"{path}/{body['metadata']['name']}")
        except ApiError as error:
            if error.status != 404:
                raise
            return self.api.create(path, body)
        body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        return self.api.update(f"{path}/{body['metadata']['name']}", body)
