"""Stands for `vllm serve` where the door in front of it is measured: answers like it, at a pace that is set.

STUB_TOKENS tokens for each answer, one in each step of STUB_STEP_MS milliseconds, for all answers at the
same moment, as vLLM's engine has them; what is not streamed comes at once. Each streamed token is the time at
which it left, in nanoseconds of this machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from aiohttp import web

_TOKENS = int(os.environ.get("STUB_TOKENS", "16"))
_STEP_SECONDS = float(os.environ.get("STUB_STEP_MS", "50")) / 1000
_IDENTITY = {"id": "chatcmpl-stub", "created": 0, "model": "stub"}


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        message = {"role": "assistant", "content": "word " * _TOKENS}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        usage = {"prompt_tokens": 8, "completion_tokens": _TOKENS, "total_tokens": 8 + _TOKENS}
        whole = {**_IDENTITY, "object": "chat.completion", "choices": [choice], "usage": usage}
        return web.json_response(whole)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for _ in range(_TOKENS):
        await asyncio.sleep(_STEP_SECONDS - time.monotonic() % _STEP_SECONDS)
        choice = {"index": 0, "delta": {"content": str(time.monotonic_ns())}, "finish_reason": None}
        chunk = {**_IDENTITY, "object": "chat.completion.chunk", "choices": [choice]}
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model"}]})


async def _health(_request: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    """Serve where `--host` and `--port` say; vLLM's other arguments are of no matter."""
    arguments = sys.argv[1:]
    host, port = (arguments[arguments.index(name) + 1] for name in ("--host", "--port"))
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/chat/completions", _chat),
            web.get("/v1/models", _models),
            web.get("/health", _health),
        ]
    )
    web.run_app(app, host=host, port=int(port), print=None, access_log=None, backlog=1024)


if __name__ == "__main__":
    main()
