"""Client of RunPod's REST API v2: typed errors, and repeats only where a repeat cannot do a thing twice.

The facts are from RunPod's OpenAPI document of REST v2 (August 2026): errors are RFC 9457 problem documents,
lists are wrapped in an object, there is no idempotency key, and `429` carries `Retry-After`. The document
shows no pages; clients that meet a cursor beside a list follow it, and so does this one.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx
import tenacity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # a create resolves the image before it answers
_ATTEMPTS = 6
_LONGEST_WAIT_SECONDS = 60.0
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=15.0, jitter=0.5)
# RunPod's front refuses the names of some HTTP libraries.
_USER_AGENT = "berth (+REST v2)"
_KEY = re.compile(r"[!-~]+")  # what a header can carry; with another character, an error would quote it whole


class RunpodError(Exception):
    """RunPod refused a request or did not answer it; the message is one line, fit for a user.

    Attributes:
        action: what was asked for ("create endpoint llm-dev").
        status: the HTTP status; None without an answer.
        title, detail: RunPod's own words.
        errors: one line for each field that was refused.
        retry_after_seconds: how long RunPod asks to wait.
        hint: which setting of the user's is meant; a sentence.
    """

    def __init__(
        self,
        action: str,
        *,
        detail: str,
        status: int | None = None,
        title: str = "",
        errors: tuple[str, ...] = (),
        retry_after_seconds: float | None = None,
        hint: str = "",
    ) -> None:
        self.action = action
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.hint = hint
        super().__init__(self._line())

    def with_hint(self, hint: str) -> Self:
        """Return the same error, which says which setting is meant."""
        return type(self)(
            self.action,
            detail=self.detail,
            status=self.status,
            title=self.title,
            errors=self.errors,
            retry_after_seconds=self.retry_after_seconds,
            hint=hint,
        )

    def _line(self) -> str:
        line = f"RunPod: cannot {self.action}: "
        if self.status is not None:
            line += f"{self.status} {self.title}".strip() + ": "
        line += self.detail
        if self.errors:
            line += f" ({'; '.join(self.errors)})"
        return " ".join(part for part in (f"{line.rstrip('.')}.", self.advice(), self.hint) if part)

    def advice(self) -> str:
        """Return what the user can do; empty where RunPod's words say it."""
        return ""


class BadRequestError(RunpodError):
    """A rule of the resource is broken (400)."""

    def advice(self) -> str:
        """Say what an exhausted choice of machines means."""
        if "no longer any instances" in self.detail:
            return "No data center has these GPUs now: widen gpu_pools or data_center_ids."
        return ""


class UnauthorizedError(RunpodError):
    """The key is missing or wrong (401)."""

    def advice(self) -> str:
        """Say where the key comes from."""
        return "Check RUNPOD_API_KEY, or the stack's secret berth:runpodApiKey."


class ForbiddenError(RunpodError):
    """The key is valid but has no right to do this (403)."""

    def advice(self) -> str:
        """Say which key does."""
        return "The key needs write access to serverless endpoints, network volumes and registries."


class NotFoundError(RunpodError):
    """There is no such object (404)."""


class ConflictError(RunpodError):
    """The object is in a state that does not allow this (409)."""


class ValidationError(RunpodError):
    """The request does not fit the schema, or its image cannot be resolved (422)."""


class RateLimitedError(RunpodError):
    """Too many requests (429); nothing was done."""

    def advice(self) -> str:
        """Say when to try again."""
        seconds = self.retry_after_seconds
        return "" if seconds is None else f"Try again in {seconds:.0f} s."


class ServerError(RunpodError):
    """RunPod failed (5xx); whether anything was done is not known."""


class NoAnswerError(RunpodError):
    """No answer arrived; whether anything was done is not known."""

    def advice(self) -> str:
        """Say what to check."""
        return "Check the network and berth's RunPod URL, then try again."


_BY_STATUS: dict[int, type[RunpodError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitedError,
}


class RunpodClient:
    """REST v2 with one key.

    Args:
        url: the base URL with its version, such as `https://api.runpod.io/v2`.
        key: the API key; it is sent as a header only and appears in no error or representation.
        transport: what carries requests in the place of the network.

    Raises:
        ValueError: the key cannot be one; the message does not show it.
    """

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._key = key.strip()
        if not _KEY.fullmatch(self._key):
            raise ValueError("RunPod: the API key has characters that no key has: spaces, or none of ASCII")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}", "User-Agent": _USER_AGENT},
            timeout=_TIMEOUT,
            trust_env=not is_loopback(self._url),  # a proxy cannot reach this machine's own servers
            verify=self._url.startswith("https:"),  # without TLS, certificates need not be loaded
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"RunpodClient({self._url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, *, action: str) -> dict[str, Any]:
        """Read an object, repeating until RunPod answers.

        Args:
            path: below the base URL, such as `/serverless`.
            action: what it is for, for errors ("read endpoint 4m7x2k9q").

        Raises:
            RunpodError: of the status's own class.
        """
        return self._repeated("GET", path, action=action)

    def list_all(self, path: str, key: str, *, action: str) -> list[dict[str, Any]]:
        """Read a list, with all the pages that it comes in.

        Args:
            path: below the base URL, such as `/serverless`.
            key: of the list in the answer.
            action: what it is for, for errors.

        Raises:
            RunpodError: of the status's own class.
        """
        items: list[dict[str, Any]] = []
        cursors: list[str] = []
        while True:
            page = self.get(
                f"{path}?cursor={quote(cursors[-1], safe='')}" if cursors else path, action=action
            )
            if not isinstance(page.get(key), list):
                raise NoAnswerError(action, detail=f"the answer from {self._url} has no list {key!r}")
            items += page[key]
            cursor = page.get("nextCursor") or (page.get("pagination") or {}).get("nextCursor")
            if not cursor:
                return items
            if cursor in cursors:
                raise NoAnswerError(action, detail=f"the pages of {path} from {self._url} have no end")
            cursors.append(cursor)

    def patch(self, path: str, body: Mapping[str, Any], *, action: str) -> dict[str, Any]:
        """Change an object; a repeat sets the same values again.

        Raises:
            RunpodError: of the status's own class.
        """
        return self._repeated("PATCH", path, action=action, body=body)

    def delete(self, path: str, *, action: str) -> None:
        """Delete an object; one that is not there is deleted.

        Raises:
            RunpodError: of the status's own class, but never `NotFoundError`.
        """
        try:
            self._repeated("DELETE", path, action=action)
        except NotFoundError:
            return

    def post(self, path: str, body: Mapping[str, Any], *, action: str) -> dict[str, Any]:
        """Create an object; repeated only where RunPod did nothing (429).

        Raises:
            NoAnswerError, ServerError: the object may exist: look for it before asking again.
            RunpodError: of the status's own class.
        """
        return self._repeated("POST", path, action=action, body=body, only=RateLimitedError)

    def _repeated(
        self,
        method: str,
        path: str,
        *,
        action: str,
        body: Mapping[str, Any] | None = None,
        only: type[RunpodError] | None = None,
    ) -> dict[str, Any]:
        kinds = (only,) if only else (RateLimitedError, ServerError, NoAnswerError)

        def is_worth_it(error: BaseException) -> bool:
            return isinstance(error, kinds) and (error.retry_after_seconds or 0) <= _LONGEST_WAIT_SECONDS

        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_worth_it),
            wait=_wait,
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                return self._once(method, path, action, body)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, method: str, path: str, action: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            response = self._http.request(method, self._url + path, json=body)
        except httpx.HTTPError as error:
            detail = f"no answer from {self._url}: {error or type(error).__name__}"
            raise NoAnswerError(action, detail=self._without_key(detail)) from None
        if not response.is_success:
            raise self._problem(action, response)
        if response.status_code == 204:
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NoAnswerError(action, detail=f"the answer from {self._url} is not a JSON object")
        return answer

    def _problem(self, action: str, response: httpx.Response) -> RunpodError:
        """Turn an error answer, a problem document or not, into a typed error."""
        status = response.status_code
        kind = ServerError if status >= 500 else _BY_STATUS.get(status, RunpodError)
        try:
            document = response.json()
        except ValueError:
            document = {}
        if not isinstance(document, dict):
            document = {}
        detail = document.get("detail") or document.get("error") or document.get("message")
        errors = document.get("errors")
        return kind(
            action,
            status=status,
            title=self._without_key(document.get("title") or response.reason_phrase),
            detail=self._without_key(detail or "the answer gives no reason"),
            errors=tuple(map(self._without_key, errors)) if isinstance(errors, list) else (),
            retry_after_seconds=_retry_after_seconds(response.headers.get("Retry-After", "")),
        )

    def _without_key(self, text: object) -> str:
        """Return a text from outside on one line and without the key, which servers may repeat."""
        return " ".join(str(text).replace(self._key, "***").split())


def is_loopback(url: str) -> bool:
    """Say whether a URL is of this machine alone."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RunpodError) and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return _BACK_OFF(state)


def _retry_after_seconds(value: str) -> float | None:
    """Read a Retry-After, which is a number of seconds or a date."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
