"""The few things that a node asks of the Kubernetes API, and copies of lists that follow their changes."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Object = dict[str, Any]

_LOG = logging.getLogger(__name__)
_WATCH_SECONDS = 300
_RETRY_SECONDS = 1.0
# The API server allows a node what its pods refer to, and learns of a pod a moment after the node does.
_PERMISSION_SECONDS = 3.0


class ApiError(RuntimeError):
    """The API server refused or did not answer.

    Args:
        message: in the server's words.
        status: the HTTP status; None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The Kubernetes API as one identity sees it; safe to use from several threads."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **params: str) -> Object:
        """Read one object or list."""
        return self._request("GET", path, params=params)

    def get_referenced(self, path: str) -> Object | None:
        """Read an object that a pod of this node refers to; None if it does not exist."""
        deadline = time.monotonic() + _PERMISSION_SECONDS
        while True:
            try:
                return self.get(path)
            except ApiError as error:
                if error.status == 404:
                    return None
                if error.status != 403 or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def create(self, path: str, body: Object) -> Object:
        """Create an object."""
        return self._request("POST", path, json=body)

    def update(self, path: str, body: Object) -> Object:
        """Replace an object, as long as it is the version that `body` names."""
        return self._request("PUT", path, json=body)

    def patch(self, path: str, body: Object) -> Object:
        """Change an object by a strategic merge patch."""
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        return self._request("PATCH", path, content=json.dumps(body), headers=headers)

    def delete(self, path: str, body: Object) -> None:
        """Delete an object; it is no error if it is gone."""
        try:
            self._request("DELETE", path, content=json.dumps(body))
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    def watch(self, path: str, params: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
        """Yield the events of one watch until the server ends it."""
        timeout = httpx.Timeout(10, read=_WATCH_SECONDS + 30)
        query = {**params, "watch": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        query["allowWatchBookmarks"] = "true"
        try:
            with self._client.stream("GET", path, params=query, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                for line in response.iter_lines():
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except httpx.HTTPError as error:
            raise ApiError(f"the API server does not answer: {error}") from error

    def _request(self, method: str, path: str, **options: Any) -> Object:
        try:
            response = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ApiError(f"the API server does not answer: {error}") from error
        if not response.is_success:
            raise _refusal(response)
        content: Object = response.json()
        return content


def _refusal(response: httpx.Response) -> ApiError:
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text.strip() or response.reason_phrase
    return ApiError(str(message), response.status_code)


class Mirror:
    """A copy of a list of objects, by uid, that follows the API server's.

    Args:
        api: where the list is.
        path: of the list.
        params: field or label selectors.
        changed: called, from one thread, with each object after it changed and whether it still exists. While
            the copy is made for the first time nothing is called until `ready` is set.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        changed: Callable[[Object, bool], None],
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._params = dict(params or {})
        self._changed = changed
        self._objects: dict[str, Object] = {}
        self.ready = threading.Event()

    def start(self) -> None:
        """Begin to follow, in a thread of its own, for as long as this process lives."""
        threading.Thread(target=self._follow, name=f"watch {self._path}", daemon=True).start()

    def objects(self) -> list[Object]:
        """Return the objects as they are now."""
        return list(self._objects.values())

    def _follow(self) -> None:
        while True:
            try:
                version = self._relist()
                while True:
                    version = self._watch(version)
            except ApiError as error:
                if error.status != 410:  # "too old": what happened meanwhile is in the next list
                    _LOG.warning("watch of %s: %s", self._path, error)
                    time.sleep(_RETRY_SECONDS)

    def _relist(self) -> str:
        answer = self._api.get(self._path, **self._params)
        new = {item["metadata"]["uid"]: item for item in answer["items"]}
        gone = [item for uid, item in self._objects.items() if uid not in new]
        self._objects = new
        self.ready.set()
        for item in gone:
            self._changed(item, False)
        for item in new.values():
            self._changed(item, True)
        return str(answer["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        for kind, item in self._api.watch(self._path, {**self._params, "resourceVersion": version}):
            if kind == "ERROR":
                raise ApiError(str(item.get("message")), item.get("code"))
            version = item["metadata"]["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            uid, exists = item["metadata"]["uid"], kind != "DELETED"
            if exists:
                self._objects[uid] = item
            else:
                self._objects.pop(uid, None)
            self._changed(item, exists)
        return version
