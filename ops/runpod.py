"""A stack's endpoint on RunPod, as REST v2 tells of it: workers, releases, limits and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.runpod.api import NotFoundError, RunpodClient, RunpodError
from ops.endpoints import berth, runpod_endpoint
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.endpoints import Endpoint
    from ops.stacks import Stack


def client(url: str, key: str) -> RunpodClient:
    """Return a client of one of RunPod's APIs.

    Raises:
        OpsError: the key cannot be one.
    """
    try:
        return RunpodClient(url, key)
    except ValueError as error:
        raise OpsError(f"{error}: look at RUNPOD_API_KEY") from None


class Runpod:
    """One endpoint.

    Args:
        api: the base URL of REST v2, up to and with `/v2`.
        endpoint: which endpoint, with its key.
    """

    def __init__(self, api: str, endpoint: Endpoint) -> None:
        self.id = endpoint.id
        self.headers = {"Authorization": f"Bearer {endpoint.key}", "User-Agent": "berth"}
        self._base = f"/serverless/{endpoint.id}"
        self._api = api
        self._client = client(api, endpoint.key)

    @classmethod
    def of(cls, stack: Stack) -> Runpod:
        """Return the endpoint of a stack.

        Raises:
            OpsError: the stack is not up, or the key is not in the environment or cannot be one.
            UsageError: it is not on RunPod.
        """
        return cls(stack.runpod_api(), runpod_endpoint(stack))

    def log_url(self, worker: str) -> str:
        """Return where a worker's log is streamed."""
        return f"{self._api}{self._base}/workers/{worker}/logs"

    def endpoint(self) -> dict[str, Any]:
        """Return its settings as RunPod has them.

        Raises:
            OpsError: RunPod refuses, does not answer or has no such endpoint.
        """
        return self._get("", "its settings")

    def workers(self) -> dict[str, Any]:
        """Return its `workers`, and their `summary` by status.

        Raises:
            OpsError: as for `endpoint`.
        """
        return self._get("/workers", "its workers")

    def releases(self) -> dict[str, Any]:
        """Return its `releases`, the newest first, and how far that one's `rollout` is.

        Of what a release changed only the fields' names are kept: values may be secrets.

        Raises:
            OpsError: as for `endpoint`.
        """
        answer = self._get("/releases", "its releases")
        releases = [
            {
                "version": release.get("version"),
                "createdAt": release["createdAt"],
                "workerCount": release["workerCount"],
                "changed": [change["field"] for change in release["diff"]],
            }
            for release in answer["releases"]
        ]
        return {"rollout": answer["rollout"], "releases": releases}

    def spent_today_usd(self) -> float | None:
        """Return what it has cost since midnight UTC; None where RunPod does not tell this key."""
        query = f"serverlessId={self.id}&bucketSize=day&lastN=1"
        try:
            answer = self._client.get(f"/billing/serverless?{query}", action="read today's spend")
            return float(sum(record["totalAmount"] for record in answer["records"]))
        except RunpodError:
            return None

    def _get(self, path: str, what: str) -> dict[str, Any]:
        try:
            return self._client.get(self._base + path, action=f"read {what}")
        except NotFoundError as error:
            raise OpsError(
                f"RunPod has no endpoint {self.id}: it was deleted outside of this project;"
                f" `{berth()} refresh`, then `{berth()} up` make it again"
            ) from error
        except RunpodError as error:
            raise OpsError(str(error)) from error
