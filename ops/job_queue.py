"""The queue of a RunPod endpoint, through its job API: counts, and single jobs.

The client of the `runpod` package is not used: it leaves out the error of a failed job and cannot retry one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from infra.runpod.api import NotFoundError, RunpodError
from ops.errors import OpsError
from ops.runpod import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.endpoints import Endpoint


class JobQueue:
    """The jobs of one endpoint.

    Args:
        endpoint: an endpoint of the type QUEUE, with its key.

    Raises:
        OpsError: it is of another type, and has no queue, or the key cannot be one.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if endpoint.jobs is None:
            raise OpsError(
                f"the endpoint {endpoint.id} has no queue: its endpoint_type is LOAD_BALANCER, which answers"
                " requests at once or refuses them. Jobs need berth:runpod.endpoint_type QUEUE"
            )
        self._client = client(endpoint.jobs, endpoint.key)

    def health(self) -> dict[str, Any]:
        """Return how many `jobs` there are and were in each state, and `workers` by theirs.

        Raises:
            OpsError: RunPod refuses or does not answer.
        """
        with _as_ops_errors():
            return self._client.get("/health", action="read the queue's counts")

    def status(self, job: str) -> dict[str, Any]:
        """Return a job as RunPod tells of it, with its output or error.

        Raises:
            OpsError: there is no such job, or RunPod refuses or does not answer.
        """
        with _as_ops_errors(job):
            return self._client.get(f"/status/{quote(job, safe='')}", action=f"read the job {job}")

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job that waits or runs.

        Raises:
            OpsError: there is no such job, or RunPod refuses or does not answer.
        """
        with _as_ops_errors(job):
            return self._client.post(f"/cancel/{quote(job, safe='')}", {}, action=f"cancel the job {job}")

    def retry(self, job: str) -> dict[str, Any]:
        """Put a job that failed or timed out into the queue again.

        Raises:
            OpsError: there is no such job, it is in another state, or RunPod does not answer.
        """
        with _as_ops_errors(job):
            return self._client.post(f"/retry/{quote(job, safe='')}", {}, action=f"retry the job {job}")

    def purge(self) -> dict[str, Any]:
        """Take all jobs that wait out of the queue; those that run go on.

        Raises:
            OpsError: RunPod refuses or does not answer.
        """
        with _as_ops_errors():
            return self._client.post("/purge-queue", {}, action="purge the queue")


@contextmanager
def _as_ops_errors(job: str | None = None) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        if job is None:
            raise OpsError(str(error)) from error
        raise OpsError(
            f"the queue has no job {job}: RunPod forgets a job 30 minutes after its end, one that came by"
            " /runsync after 1 minute"
        ) from error
    except RunpodError as error:
        raise OpsError(str(error)) from error
