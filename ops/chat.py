"""Asks an OpenAI endpoint for one chat completion, streamed or not, and measures the answer."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECT_SECONDS = 10.0
# A whole answer of the tokens that a smoke test asks for takes seconds even on a CPU.
MAX_TOKENS = 16


class ChatError(Exception):
    """The endpoint did not give the answer that was asked for.

    Args:
        message: what it gave instead, without the key.
        status: the HTTP status, if there was one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """One chat completion and what it took.

    Args:
        text: what the model said; may be empty, when its tokens are no text.
        prompt_tokens: tokens of the question, by the endpoint's own count.
        completion_tokens: tokens of the answer, by the endpoint's own count; at least 1.
        latency_seconds: from the request to the last byte.
        first_token_seconds: from the request to the first token, of a streamed answer.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    latency_seconds: float
    first_token_seconds: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answer by the whole time of the request."""
        return self.completion_tokens / self.latency_seconds


def ask(url: str, key: str | None, model: str, *, stream: bool, limit_seconds: float) -> Answer:
    """Ask for one chat completion.

    Args:
        url: the endpoint up to and with `/v1`.
        key: the API key, or None to go without.
        model: the served name of the model.
        stream: whether the answer comes token by token.
        limit_seconds: how long the whole answer may take.

    Raises:
        ChatError: it was refused, is not what the protocol says, has no token or took too long.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello to the harbour in one sentence."}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        # vLLM's own: a model that would end at once still shows that it gives tokens.
        "ignore_eos": True,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun = time.monotonic()
    lines = _post(f"{url}/chat/completions", key, body, begun + limit_seconds)
    try:
        return streamed(lines, begun) if stream else _whole(lines, begun)
    except httpx.TimeoutException:
        raise ChatError(f"no complete answer in {limit_seconds:.0f} s") from None
    except httpx.HTTPError as error:
        raise ChatError(f"the connection failed: {error or type(error).__name__}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ChatError(f"the answer is not a chat completion: {error!r}") from error


def _post(url: str, key: str | None, body: dict[str, Any], deadline: float) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    remaining = max(deadline - time.monotonic(), 0.1)
    timeout = httpx.Timeout(remaining, connect=min(remaining, _CONNECT_SECONDS))
    with httpx.stream("POST", url, headers=headers, json=body, timeout=timeout) as response:
        if response.status_code != httpx.codes.OK:
            raise ChatError(
                f"HTTP {response.status_code}: {reason_in(response.read())}", response.status_code
            )
        for line in response.iter_lines():
            # The timeout above is of each read: a server that drips would never reach it.
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer goes on and on")
            yield line


def reason_in(body: bytes) -> str:
    """Return why a request was refused, from its answer's body, cut where it is long."""
    text = body.decode(errors="replace").strip()
    try:
        loaded = json.loads(text)
    except ValueError:
        return text[:300] or "no reason given"
    if isinstance(loaded, dict):
        error = loaded.get("error", loaded)
        message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        text = str(message or text)
    return text[:300]


def _whole(lines: Iterator[str], begun: float) -> Answer:
    document = json.loads("\n".join(lines))
    latency = time.monotonic() - begun
    if "error" in document:  # a job that failed, behind a status that says otherwise
        raise ChatError(reason_in(json.dumps(document).encode()))
    message = document["choices"][0]["message"]
    return _answer(_text(message), document["usage"], latency, None)


def streamed(lines: Iterator[str], begun: float) -> Answer:
    """Return the answer that a stream of events is.

    Args:
        lines: of the stream, as they come.
        begun: when it was asked for, by `time.monotonic`.

    Raises:
        ChatError: it is not whole, has an error in it or no token.
        ValueError, KeyError, IndexError, TypeError, AttributeError: it is not what the protocol says.
    """
    text: list[str] = []
    usage: dict[str, Any] | None = None
    first: float | None = None
    done = False
    for line in lines:
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            done = True
            break
        chunk = json.loads(data)
        if "error" in chunk:
            raise ChatError(f"the stream ends with an error: {reason_in(data.encode())}")
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            part = _text(choice["delta"]) if "delta" in choice else choice["text"]
            if part and first is None:
                first = time.monotonic() - begun
            text.append(part)
    latency = time.monotonic() - begun
    if not done:
        raise ChatError("the stream ended without [DONE]")
    if usage is None:
        raise ChatError("the stream has no tokens and no count of them")
    return _answer("".join(text), usage, latency, latency if first is None else first)


def _text(message: dict[str, Any]) -> str:
    """Return what a message or a part of one says, aloud or in thought."""
    return "".join(message.get(key) or "" for key in ("reasoning_content", "reasoning", "content"))


def _answer(text: str, usage: dict[str, Any], latency: float, first: float | None) -> Answer:
    if usage["completion_tokens"] < 1:
        raise ChatError("the answer has no tokens")
    return Answer(text, usage["prompt_tokens"], usage["completion_tokens"], latency, first)
