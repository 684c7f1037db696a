"""The plain dialects whose answer is text: a prompt, messages, a question about an image, a batch of prompts.

The answer is an OpenAI chat completion that has the short forms in it, too: `response`, and the `details` of
TGI's clients. So every client that sends these inputs finds what it reads.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from queue_door.fields import Fields, described, wrong
from queue_door.media import image_url
from queue_door.streaming import tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from queue_door.engine import Engine

CHAT_ROUTE = "/v1/chat/completions"
COMPLETION_ROUTE = "/v1/completions"
# What those who send plain inputs rely on, where they do not say it.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 512,
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": -1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
_TGI_REASONS = {"length": "length", "stop": "eos_token"}


def is_published_workers(given: dict[str, Any]) -> bool:
    """Tell whether an input is of runpod-workers/worker-vllm's own dialect, which has no defaults."""
    return "sampling_params" in given


async def complete(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Answer a prompt, messages, or a question about an image."""
    fields = Fields(given)
    route, body = _request(fields)
    answer = json.loads(await engine.ask(route, {**DEFAULTS, **body, **fields.rest}, job_id))
    return _both_forms(answer, job_id)


async def stream(engine: Engine, job_id: str, given: dict[str, Any]) -> AsyncIterator[Any]:
    """Answer as `complete` does, in pieces: `{"token", "finished"}`."""
    fields = Fields(given)
    route, body = _request(fields)
    body = {**DEFAULTS, **body, **fields.rest, "stream": True}
    async with engine.request(route, body, job_id) as response:
        async for token in tokens(engine, response):
            yield token


async def batch(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Complete several prompts: `prompts`."""
    fields = Fields(given)
    prompts = fields.texts("prompts")
    body = {**DEFAULTS, **fields.rest, "prompt": prompts}
    answer = json.loads(await engine.ask(COMPLETION_ROUTE, body, job_id))
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    return {
        "responses": [choice["text"] for choice in choices],
        "model": answer["model"],
        "usage": answer["usage"],
    }


def sampled(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return route and body of an input with `sampling_params`, as the published worker makes them."""
    fields = Fields(given)
    parameters = fields.rest.pop("sampling_params", None)
    if not isinstance(parameters, dict):
        raise wrong("sampling_params", f"must be an object, not {described(parameters)}")
    route, body = _request(fields)
    return route, {**parameters, **body, **fields.rest}


def _request(fields: Fields) -> tuple[str, dict[str, Any]]:
    """Take what is asked out of the fields; return its route and its part of the body."""
    body: dict[str, Any] = {"stream": True} if fields.rest.pop("stream", False) else {}
    if "image" in fields:
        image = {"type": "image_url", "image_url": {"url": image_url(fields)}}
        question = {"type": "text", "text": fields.text("prompt")}
        return CHAT_ROUTE, {**body, "messages": [{"role": "user", "content": [image, question]}]}
    if "messages" in fields:
        return CHAT_ROUTE, {**body, "messages": _messages(fields)}
    return COMPLETION_ROUTE, {**body, "prompt": fields.text("prompt")}


def _messages(fields: Fields) -> list[Any]:
    found = fields.rest.pop("messages")
    if not isinstance(found, list):
        raise wrong("messages", f"must be a list of objects, not {described(found)}")
    if not found:
        raise wrong("messages", "is empty: give at least one message")
    for index, message in enumerate(found):
        if not isinstance(message, dict):
            raise wrong(
                f"messages[{index}]", f"must be an object with role and content, not {described(message)}"
            )
    return found


def _both_forms(answer: dict[str, Any], job_id: str) -> dict[str, Any]:
    choices = [_as_chat(choice) for choice in answer["choices"]]
    first = choices[0]
    reason = first["finish_reason"]
    details = {
        "finish_reason": "stop_sequence" if first.get("stop_reason") else _TGI_REASONS.get(reason, reason),
        "generated_tokens": answer["usage"].get("completion_tokens", 0),
    }
    return {
        "id": f"chatcmpl-{job_id}",
        "object": "chat.completion",
        "created": answer.get("created") or int(time.time()),
        "model": answer["model"],
        "choices": choices,
        "usage": answer["usage"],
        "response": first["message"].get("content") or "",
        "details": details,
    }


def _as_chat(choice: dict[str, Any]) -> dict[str, Any]:
    if "message" in choice:
        return choice
    return {
        **{name: value for name, value in choice.items() if name != "text"},
        "message": {"role": "assistant", "content": choice["text"]},
    }
