"""Whether an endpoint would answer now, asked for in the way that makes its platform start a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from ops import chat

if TYPE_CHECKING:
    from ops.endpoints import Endpoint

# RunPod's load balancer holds a poll until a worker is there; it is cut, to look at the workers.
_POLL_LIMIT_SECONDS = 20.0
_FORBIDDEN = (401, 403)
_SHORTEST_TTL_MS = 10_000


class HealthPath:
    """An endpoint that has a health path.

    Args:
        endpoint: which.
        deadline: when the wait is given up, by `time.monotonic`.
    """

    def __init__(self, endpoint: Endpoint, deadline: float) -> None:
        self._endpoint = endpoint
        self._deadline = deadline

    def poll(self) -> tuple[str, bool | None]:
        """Return what the endpoint says and whether that is ready; None is never."""
        health = self._endpoint.health
        reply, problem = _ask("GET", health, self._endpoint.key, self._deadline)
        if reply is None:
            return problem, False
        if reply.status_code == httpx.codes.OK:
            return "", True
        if reply.status_code == httpx.codes.NO_CONTENT:
            return "a worker is there and loads the model", False
        return _refusal(health, reply)

    def close(self) -> None:
        """Leave nothing behind: a poll leaves nothing."""


class FirstJob:
    """A queue, which has no health path that starts a worker: a job that asks for the models does.

    The job is asynchronous, as RunPod's front breaks a synchronous one off after 100 s.

    Args:
        endpoint: which; it has a job API.
        deadline: when the wait is given up, by `time.monotonic`; the job does not outlive it.
    """

    def __init__(self, endpoint: Endpoint, deadline: float) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._job: str | None = None

    def poll(self) -> tuple[str, bool | None]:
        """Return what the endpoint says and whether that is ready; None is never."""
        url = f"{self._endpoint.jobs}/run" if self._job is None else self._of_job("status")
        reply, problem = (
            _ask("POST", url, self._endpoint.key, self._deadline, self._body())
            if self._job is None
            else _ask("GET", url, self._endpoint.key, self._deadline)
        )
        if reply is None:
            return problem, False
        if reply.status_code != httpx.codes.OK:
            return _refusal(url, reply)
        job = reply.json()
        self._job, status = job["id"], job["status"]
        if status == "COMPLETED":
            self._job = None
            return "", True
        if status in {"IN_QUEUE", "IN_PROGRESS", "RUNNING"}:
            place = "waits in the queue" if status == "IN_QUEUE" else "is with a worker"
            return f"the first job {place}", False
        self._job = None
        return f"the first job is {status}: {job.get('error') or 'no reason given'}", None

    def close(self) -> None:
        """Cancel the job, so that no worker is started for nobody."""
        if self._job is not None:
            _ask("POST", self._of_job("cancel"), self._endpoint.key, time.monotonic() + _POLL_LIMIT_SECONDS)

    def _of_job(self, verb: str) -> str:
        return f"{self._endpoint.jobs}/{verb}/{self._job}"

    def _body(self) -> dict[str, Any]:
        left_ms = int((self._deadline - time.monotonic()) * 1000)
        return {
            "input": {"openai_route": "/v1/models"},
            "policy": {"ttl": max(left_ms, _SHORTEST_TTL_MS)},
        }


def readiness(endpoint: Endpoint, deadline: float) -> HealthPath | FirstJob:
    """Return the way to ask an endpoint whether it is ready.

    Args:
        endpoint: which.
        deadline: when the wait is given up, by `time.monotonic`.
    """
    return HealthPath(endpoint, deadline) if endpoint.jobs is None else FirstJob(endpoint, deadline)


def _ask(
    method: str, url: str, key: str, deadline: float, body: dict[str, Any] | None = None
) -> tuple[httpx.Response | None, str]:
    limit = min(_POLL_LIMIT_SECONDS, max(deadline - time.monotonic(), 0.1))
    headers = {"Authorization": f"Bearer {key}"}
    try:
        return httpx.request(method, url, headers=headers, json=body, timeout=limit), ""
    except httpx.TimeoutException:
        return None, "no worker has answered yet"
    except httpx.HTTPError as error:
        return None, f"{url} cannot be reached ({error or type(error).__name__})"


def _refusal(url: str, reply: httpx.Response) -> tuple[str, bool | None]:
    if reply.status_code in _FORBIDDEN:
        return f"{url} refuses the key (HTTP {reply.status_code})", None
    return f"{url} answers HTTP {reply.status_code}: {chat.reason_in(reply.content)}", False
