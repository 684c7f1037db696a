"""An endpoint for many users at once: streams tokens, hangs, or refuses some requests, as a test wants."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_START_SECONDS = 20


@dataclass
class StubEngine:
    """A server in a thread of its own, for as long as the `with` block lasts.

    Args:
        key: what it asks for.
        tokens: how many an answer has.
        token_seconds: how long each takes.
        statuses: the first requests of a load are refused with these, one each.
        hangs: whether answers stop after their first token.
        chat_template: whether it takes chat.
        metrics: what its /metrics says to who has the key.
        bodies: what was asked.
    """

    key: str = "right-key"
    tokens: int = 4
    token_seconds: float = 0.01
    statuses: list[int] = field(default_factory=list)
    hangs: bool = False
    chat_template: bool = True
    metrics: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Self:
        routes = [
            Route("/health", lambda _: Response(), methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._completion, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), "127.0.0.1", 0, lifespan="off", log_level="error", backlog=2048
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    async def _metrics(self, request: Request) -> Response:
        if not self._has_key(request):
            return Response(status_code=401)
        return PlainTextResponse(self.metrics)

    def _has_key(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    async def _chat(self, request: Request) -> Response:
        if not self.chat_template:
            return JSONResponse({"error": {"message": "the model has no chat template"}}, 400)
        return await self._answer(request, lambda text: {"delta": {"content": text}})

    async def _completion(self, request: Request) -> Response:
        return await self._answer(request, lambda text: {"text": text})

    async def _embeddings(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        return JSONResponse({"data": [{"embedding": [0.6, 0.8]}, {"embedding": [1, 0]}]})

    async def _answer(self, request: Request, choice: Any) -> Response:
        if not self._has_key(request):
            return JSONResponse({"error": "Unauthorized"}, 401)
        # The first request is the one before the load.
        status = self.statuses.pop(0) if self.bodies and self.statuses else 200
        self.bodies.append(await request.json())
        if status != 200:
            return JSONResponse({"error": {"message": f"refused with {status}"}}, status)
        hangs = self.hangs and len(self.bodies) > 1
        return StreamingResponse(self._stream(choice, hangs=hangs), media_type="text/event-stream")

    async def _stream(self, choice: Any, *, hangs: bool) -> AsyncIterator[str]:
        for number in range(self.tokens):
            await asyncio.sleep(self.token_seconds)
            yield f"data: {json.dumps({'choices': [choice(f' {number}')]})}\n\n"
            while hangs and not self._server.should_exit:
                await asyncio.sleep(0.05)
        usage = {"prompt_tokens": 128, "completion_tokens": self.tokens}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
