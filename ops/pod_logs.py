"""The logs of the model's pods on EKS, read from the Kubernetes API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.settings import PROJECT
from ops.cluster import ERRORS, core_api
from ops.errors import OpsError
from ops.log_lines import Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The pods of infra/eks/model_service.py: their namespace is the project's.
SELECTOR = "app.kubernetes.io/name=model"
"""The label of the model's pods."""
_LIMIT_SECONDS = 10.0


class PodLogs:
    """The logs of the pods that serve the model.

    Args:
        kubeconfig: the cluster's kubeconfig.
        environment: the variables under which its command for a token works.
        tail: how many lines of before to begin with.

    Raises:
        OpsError: the kubeconfig cannot be used.
    """

    name = "eks"

    def __init__(self, kubeconfig: str, environment: Mapping[str, str], *, tail: int) -> None:
        self._tail = tail
        try:
            self._api = core_api(kubeconfig, environment)
        except ERRORS as error:
            raise _refused("cannot be reached", error) from None

    def origins(self) -> list[str]:
        """Return the pods whose container has started; one that was restarted has another log."""
        try:
            pods = self._api.list_namespaced_pod(
                PROJECT, label_selector=SELECTOR, _request_timeout=_LIMIT_SECONDS
            ).items
        except ERRORS as error:
            raise _refused("does not tell about its pods", error) from None
        return [_origin(pod) for pod in pods if _started(pod)]

    def log(self, origin: str) -> PodLog:
        """Return a pod's log."""
        return PodLog(self._api, origin, tail=self._tail)


class PodLog:
    """The log of one pod; after a lost connection it goes on with what is written from then on.

    Args:
        api: the Kubernetes API.
        origin: as `origins` names it.
        tail: how many lines of before to begin with.
    """

    def __init__(self, api: Any, origin: str, *, tail: int) -> None:
        self._api = api
        self._origin = origin
        self._pod = origin.partition(",")[0]
        self._tail = tail

    def lines(self, *, follow: bool) -> Iterator[Line]:
        """Yield the lines, then end, or go on for as long as the container and the connection last.

        Raises:
            OpsError: the cluster refuses.
        """
        try:
            reply = self._api.read_namespaced_pod_log(
                self._pod, PROJECT, tail_lines=self._tail, follow=follow, _preload_content=False,
                _request_timeout=None if follow else _LIMIT_SECONDS,
            )  # fmt: skip
        except ERRORS as error:
            if getattr(error, "status", None) == 404:
                return
            raise _refused(f"does not give the log of the pod {self._pod}", error) from None
        self._tail = 0
        rest = b""
        try:
            for block in reply.stream(amt=None):
                *whole, rest = (rest + block).split(b"\n")
                yield from (self._line(line) for line in whole)
        except ERRORS:
            pass
        finally:
            reply.release_conn()
        if rest:
            yield self._line(rest)

    def _line(self, text: bytes) -> Line:
        return Line(self._origin, text.decode(errors="replace").rstrip("\r"))


def _origin(pod: Any) -> str:
    restarts = sum(status.restart_count for status in pod.status.container_statuses)
    return f"{pod.metadata.name}, restart {restarts}" if restarts else str(pod.metadata.name)


def _started(pod: Any) -> bool:
    return any(
        status.state.running or status.state.terminated for status in pod.status.container_statuses or []
    )


def _refused(what: str, error: BaseException) -> OpsError:
    reason = getattr(error, "reason", None)
    status = getattr(error, "status", None)
    why = f"{status} {reason}" if status else str(error) or type(error).__name__
    return OpsError(f"the cluster {what}: {why}")
