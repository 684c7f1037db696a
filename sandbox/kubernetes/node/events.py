"""Writes the events that `kubectl describe` shows; the same event again only raises its count."""

from __future__ import annotations

import logging
import queue
import threading
from datetime import UTC, datetime

from sandbox.kubernetes.node.api import Api, ApiError, Object

_LOG = logging.getLogger(__name__)
_REMEMBERED = 500


def timestamp() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Events:
    """Events about pods, written one after the other by a thread, so that nothing waits for them.

    Args:
        api: where they go.
        node: the name of the node that reports them.
    """

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._source = {"component": "kubelet", "host": node}
        self._queue: queue.SimpleQueue[Object] = queue.SimpleQueue()
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}
        threading.Thread(target=self._write, name="events", daemon=True).start()

    def emit(
        self, pod: Object, reason: str, message: str, *, warning: bool = False, field: str | None = None
    ) -> None:
        """Report something that happened to a pod.

        Args:
            pod: the pod.
            reason: one word, as the kubelet uses it.
            message: for people.
            warning: whether it is a Warning and not Normal.
            field: the part of the pod, as "spec.containers{vllm}".
        """
        metadata = pod["metadata"]
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        if field is not None:
            reference["fieldPath"] = field
        now = timestamp()
        self._queue.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
                "involvedObject": reference,
                "reason": reason,
                "message": message[:1024],
                "type": "Warning" if warning else "Normal",
                "source": self._source,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )

    def _write(self) -> None:
        while True:
            event = self._queue.get()
            try:
                self._send(event)
            except ApiError as error:
                _LOG.warning("event %s: %s", event["reason"], error)

    def _send(self, event: Object) -> None:
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        about = event["involvedObject"]
        key = (about["uid"], about.get("fieldPath", ""), event["reason"], event["message"])
        if key in self._known:
            name, count = self._known[key]
            try:
                self._api.patch(
                    f"{path}/{name}", {"count": count + 1, "lastTimestamp": event["lastTimestamp"]}
                )
            except ApiError as error:
                if error.status != 404:  # it expired: write it anew
                    raise
            else:
                self._known[key] = (name, count + 1)
                return
        name = self._api.create(path, event)["metadata"]["name"]
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = (name, 1)
