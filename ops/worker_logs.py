"""The logs of RunPod's workers: REST v2's stream of server-sent events, taken up again where it broke off."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx

from infra.runpod.api import is_loopback
from ops.errors import OpsError
from ops.log_lines import Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.runpod import Runpod

_CONNECT_SECONDS = 10.0
# The stream never says that all that was written has come; this much silence does.
_SILENCE_SECONDS = 2.0
_WRITTEN_SECONDS = 20.0
# A connection that died without a word is made again after this.
_FOLLOW_SILENCE_SECONDS = 120.0
_FAILURES = 5
_MAY_PASS = (408, 429, 500, 502, 503, 504)


class WorkerLogs:
    """The logs of an endpoint's workers.

    Args:
        runpod: the endpoint.
        source: `container` or `system`; None for both.
        tail: how many lines of before to begin with, 0 to 5,000.
    """

    name = "runpod"

    def __init__(self, runpod: Runpod, *, source: str | None, tail: int) -> None:
        self._runpod = runpod
        self._source = source
        self._tail = tail

    def origins(self) -> list[str]:
        """Return the ids of the workers that there are now."""
        return [worker["id"] for worker in self._runpod.workers()["workers"]]

    def log(self, origin: str) -> WorkerLog:
        """Return a worker's log."""
        return WorkerLog(self._runpod, origin, source=self._source, tail=self._tail)


class WorkerLog:
    """The log of one worker, which remembers how far it has been read.

    Args:
        runpod: the endpoint.
        worker: the worker's id.
        source: `container` or `system`; None for both.
        tail: how many lines of before to begin with, 0 to 5,000.
    """

    def __init__(self, runpod: Runpod, worker: str, *, source: str | None, tail: int) -> None:
        self._url = runpod.log_url(worker)
        self._headers = runpod.headers
        self._worker = worker
        self._query: dict[str, str | int] = ({"source": source} if source else {}) | {"tail": tail}
        self._tail = tail
        self._last_event_id: str | None = None
        self._failures = 0

    def lines(self, *, follow: bool) -> Iterator[Line]:
        """Yield the lines after those already given, then end, or go on for as long as the connection lasts.

        A worker that is gone has no lines; a connection that breaks ends them, until the next call.

        Raises:
            OpsError: RunPod refuses, or fails time and again.
        """
        try:
            for count, line in enumerate(self._events(follow=follow), start=1):
                self._failures = 0
                yield line
                if not follow and count >= self._tail:
                    return
        except httpx.ReadTimeout:
            return
        except (ValueError, KeyError, TypeError) as error:
            what = f"RunPod's log of the worker {self._worker}"
            raise OpsError(f"{what} has no known form: {error!r}") from error
        except httpx.HTTPError as error:
            self._failures += 1
            if not follow or self._failures >= _FAILURES:
                why = str(error) or type(error).__name__
                raise OpsError(f"RunPod's log of the worker {self._worker} cannot be read: {why}") from None

    def _events(self, *, follow: bool) -> Iterator[Line]:
        headers = {**self._headers, "Accept": "text/event-stream"}
        if self._last_event_id is not None:
            headers["Last-Event-ID"] = self._last_event_id
        silence = _FOLLOW_SILENCE_SECONDS if follow else _SILENCE_SECONDS
        timeout = httpx.Timeout(_CONNECT_SECONDS, read=silence)
        begun = time.monotonic()
        with httpx.stream(
            "GET",
            self._url,
            params=self._query,
            headers=headers,
            timeout=timeout,
            trust_env=not is_loopback(self._url),
        ) as reply:
            if reply.status_code == httpx.codes.NOT_FOUND:
                return
            if reply.status_code in _MAY_PASS:
                raise httpx.RemoteProtocolError(f"HTTP {reply.status_code}")
            if not reply.is_success:
                raise OpsError(
                    f"RunPod refuses the log of the worker {self._worker}: HTTP {reply.status_code}"
                )
            event_id = None
            for text in reply.iter_lines():
                field, _, value = text.partition(":")
                if field == "id":
                    event_id = value.strip()
                elif field == "data":
                    data: dict[str, Any] = json.loads(value)
                    self._last_event_id = event_id or data["ts"]
                    yield Line(self._worker, data["line"].rstrip(), data["ts"], data["source"])
                if not follow and time.monotonic() - begun > _WRITTEN_SECONDS:
                    return
