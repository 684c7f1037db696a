"""One request of a load, sent and judged: a stream, a whole answer, or a job of a queue. Needs gevent."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import gevent
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from ops import chat, questions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.load.mix import Manner
    from ops.load.order import Order, Target
    from ops.questions import Question

_CONNECT_SECONDS = 10.0
_WRONG_FORM = (ValueError, KeyError, IndexError, TypeError, AttributeError)
# RunPod allows 200 looks at a job's status in a second, over all clients of an endpoint.
# Source: RunPod's documentation, "Rate limits".
_LOOKS_PER_SECOND = 100.0
_SHORTEST_POLL_SECONDS = 0.25
_SHORTEST_TTL_MS = 10_000
_DONE, _WAITS = "COMPLETED", ("IN_QUEUE", "IN_PROGRESS", "RUNNING")


class FailedError(Exception):
    """A request got no right answer.

    Args:
        kind: how it failed, the same for all that fail so.
        detail: in the server's words; never the key.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail


class LateError(Exception):
    """A request has reached its limit."""


@dataclass(frozen=True)
class Answered:
    """A right answer and what it took.

    Args:
        kind: what was asked, as the results name it.
        seconds: from the request to the last byte; of a job, as RunPod counts it, without the looks at it.
        first_token_seconds: from the request to the first token, of a stream.
        prompt_tokens: by the server's own count; 0 where it has none.
        completion_tokens: likewise.
    """

    kind: str
    seconds: float
    first_token_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Asker:
    """Asks one endpoint, one request after the other.

    Args:
        target: the endpoint.
        order: the load.
        manner: how it wants to be asked.
    """

    def __init__(self, target: Target, order: Order, manner: Manner) -> None:
        self._target = target
        self._order = order
        self._manner = manner
        self._questions = () if order.mix else tuple(questions.of_task(order.task, order.model))
        self._next = 0
        self._base = urlsplit(target.jobs or target.url.removesuffix("/v1"))
        self._client: HTTPClient | None = None
        self.job: str | None = None

    def pick(self) -> tuple[str, Any]:
        """Return what to ask next: its name in results, and itself."""
        if self._order.mix is not None:
            part = self._order.mix.pick()
            return f"{'chat' if self._manner.chat else 'completion'}, {part.kind}", part
        question = self._questions[self._next % len(self._questions)]
        self._next += 1
        return question.name, question

    def ask(self, kind: str, asked: Any) -> Answered:
        """Ask, and return the answer once it is whole and right.

        Args:
            kind: as `pick` gave it.
            asked: likewise.

        Raises:
            FailedError: it was refused, was not right, or took longer than the order's limit.
        """
        limit = self._order.limit_seconds
        try:
            with gevent.Timeout(limit, LateError):
                return self._ask(kind, asked)
        except FailedError as error:
            failure = error
        except LateError:
            failure = FailedError(f"no whole answer in {limit:g} s")
        except (OSError, HTTPParseError) as error:
            failure = FailedError("the connection failed", str(error) or type(error).__name__)
        except chat.ChatError as error:
            failure = FailedError("the answer is not right", str(error))
        except _WRONG_FORM as error:
            failure = FailedError("the answer is not right", repr(error)[:200])
        self._drop()
        self.cancel()
        raise failure

    def cancel(self) -> None:
        """Cancel the job that was asked for and not answered, so that no worker runs for nobody."""
        job, self.job = self.job, None
        if job is not None:
            try:
                with gevent.Timeout(_CONNECT_SECONDS, LateError):
                    self._post_json(f"/cancel/{quote(job, safe='')}", {})
            except (FailedError, LateError, OSError, HTTPParseError, ValueError):
                self._drop()  # its time to live ends it

    def _ask(self, kind: str, asked: Any) -> Answered:
        if self._target.jobs is not None:
            return self._job(kind, asked)
        if self._order.mix is not None:
            return self._stream(kind, asked)
        return self._question(kind, asked)

    def _stream(self, kind: str, part: Any) -> Answered:
        body = part.body(self._order.model, self._manner)
        route = "/v1/chat/completions" if self._manner.chat else "/v1/completions"
        begun = time.monotonic()
        response = self._post(route, json.dumps(body).encode(), "application/json")
        answer = chat.streamed(_lines(response), begun)
        response.read()
        return Answered(
            kind,
            answer.latency_seconds,
            answer.first_token_seconds,
            answer.prompt_tokens,
            answer.completion_tokens,
        )

    def _question(self, kind: str, question: Question) -> Answered:
        begun = time.monotonic()
        response = self._post(question.route, *_form(question))
        content = response.read()
        seconds = time.monotonic() - begun
        is_json = str(response.get("content-type", "")).startswith("application/json")
        _judge(question.problem, json.loads(content) if is_json else content)
        return Answered(kind, seconds)

    def _job(self, kind: str, asked: Any) -> Answered:
        given, judge = self._input(asked)
        limit_ms = max(int(self._order.limit_seconds * 1000), _SHORTEST_TTL_MS)
        begun = time.monotonic()
        job = self._post_json("/run", {"input": given, "policy": {"ttl": limit_ms}})
        submitted = time.monotonic() - begun
        self.job = job["id"]
        poll = max(_SHORTEST_POLL_SECONDS, self._order.users / _LOOKS_PER_SECOND)
        while job["status"] in _WAITS:
            gevent.sleep(poll)
            response = self._request("GET", f"/status/{quote(self.job, safe='')}")
            job = json.loads(response.read())
        self.job = None
        if job["status"] != _DONE:
            raise FailedError(f"the job is {job['status']}", str(job.get("error") or "no reason given")[:300])
        output = job["output"]
        output = output[0] if isinstance(output, list) and len(output) == 1 else output
        judge(output)
        usage = output.get("usage") or {} if isinstance(output, dict) else {}
        return Answered(
            kind,
            submitted + (job["delayTime"] + job["executionTime"]) / 1000,
            None,
            usage.get("prompt_tokens", 0),
            usage.get("completion_tokens", 0),
        )

    def _input(self, asked: Any) -> tuple[dict[str, Any], Any]:
        """Return a job's input, and what raises an error where its output is none."""
        if self._order.mix is None:
            if asked.job is not None:
                return asked.job, lambda output: _judge(asked.job_problem, output)
            given = {"openai_route": asked.route, "openai_input": asked.fields}
            return given, lambda output: _judge(asked.problem, questions.without_base64(output))
        body = asked.body(self._order.model, self._manner)
        del body["stream"], body["stream_options"]
        route = "/v1/chat/completions" if self._manner.chat else "/v1/completions"
        return {"openai_route": route, "openai_input": body}, _has_tokens

    def _post_json(self, path: str, body: dict[str, Any]) -> Any:
        return json.loads(self._post(path, json.dumps(body).encode(), "application/json").read())

    def _post(self, path: str, body: bytes, content_type: str) -> Any:
        return self._request("POST", path, body, {"Content-Type": content_type})

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Any:
        if self._client is None:
            self._client = HTTPClient(
                str(self._base.hostname),
                self._base.port,
                ssl=self._base.scheme == "https",
                ssl_context_factory=_ssl_context,
                connection_timeout=_CONNECT_SECONDS,
                network_timeout=self._order.limit_seconds,
            )
        sent = {"Authorization": f"Bearer {self._target.key}", "User-Agent": "berth", **(headers or {})}
        response = self._client.request(method, self._base.path + path, body, sent)
        if response.status_code != 200:
            raise FailedError(f"HTTP {response.status_code}", chat.reason_in(response.read()))
        return response

    def _drop(self) -> None:
        """Close the connection: what is left of an answer on it belongs to nobody."""
        if self._client is not None:
            self._client.close()
            self._client = None


@cache
def _ssl_context(cafile: str | None) -> ssl.SSLContext:
    # One for all: to read the certificates takes longer than a request.
    return ssl.create_default_context(cafile=cafile)


def _lines(response: Any) -> Iterator[str]:
    # `read` with a size would wait until so much is there, and a first token is less.
    while line := response.readline(b"\n"):
        yield line.decode().rstrip("\r\n")


def _form(question: Question) -> tuple[bytes, str]:
    if question.file is None:
        return json.dumps(question.fields).encode(), "application/json"
    # The multipart encoding of the client that the other commands have.
    import httpx  # noqa: PLC0415

    files = {"file": ("speech.wav", question.file, "audio/wav")}
    request = httpx.Request("POST", "http://localhost", data=question.fields, files=files)
    return request.read(), request.headers["Content-Type"]


def _judge(judge: Any, answer: Any) -> None:
    problem = questions.judged(judge, answer)
    if problem is not None:
        raise FailedError("the answer is not right", problem)


def _has_tokens(output: Any) -> None:
    if output["usage"]["completion_tokens"] < 1:
        raise FailedError("the answer is not right", "it has no tokens")
