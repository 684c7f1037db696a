"""Stands in for the image's queue door: the real SDK's worker, with answers to OpenAI's routes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import runpod  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BROKEN = "--broken" in sys.argv
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"content": "Hello"}}]},
    {"choices": [{"index": 0, "delta": {"content": " there"}}]},
    {"choices": [], "usage": USAGE},
]


async def answer(job: dict[str, Any]) -> AsyncIterator[Any]:
    asked = job["input"]
    if BROKEN:
        yield {"error": "the engine is dead"}
    elif asked["openai_route"] == "/v1/models":
        yield {"object": "list", "data": [{"id": "served"}]}
    elif asked["openai_route"] == "/v1/completions":
        yield {"choices": [{"index": 0, "text": "Hello there"}], "usage": USAGE}
    elif asked["openai_input"].get("stream"):
        for chunk in CHUNKS:
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"
    else:
        message = {"role": "assistant", "content": "Hello there"}
        yield {"choices": [{"index": 0, "message": message}], "usage": USAGE}


sys.argv = sys.argv[:1]  # the SDK reads arguments of its own
runpod.serverless.start({"handler": answer, "return_aggregate_stream": True})
