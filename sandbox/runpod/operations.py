"""What the operations of the job API and the worker protocol have in common: bodies, refusals, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.routing import Route

from sandbox.runpod.jobs import JobError
from sandbox.runpod.problems import edge_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

_MIB = 1 << 20

Result = TypeVar("Result")


def route(
    method: str,
    path: str,
    answer: Callable[[Request], Awaitable[Response]],
    admit: Callable[[Request], AbstractContextManager[None]] = lambda _request: contextlib.nullcontext(),
) -> Route:
    """Return the route of an operation whose refusals are answered as the platform does.

    Args:
        method: GET or POST.
        path: below the job API's base.
        answer: answers, or raises `JobError`.
        admit: is held until the last byte of the answer is sent; it may raise `JobError` as well.
    """
    return Route(path, _Operation(answer, admit), methods=[method])


class _Operation:
    """An operation as an ASGI application."""

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Response]],
        admit: Callable[[Request], AbstractContextManager[None]],
    ) -> None:
        self._answer = answer
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            with self._admit(request):
                response = await self._answer(request)
                await response(scope, receive, send)
        except JobError as error:
            await edge_error(error.status, str(error))(scope, receive, send)


async def read(request: Request, limit_bytes: int) -> bytes:
    """Return a request's body.

    Raises:
        JobError: it is larger than the platform takes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise JobError(400, f"bad request: body: exceeded max body size of {limit_bytes // _MIB}MiB")
    return bytes(body)


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body has in JSON.

    Raises:
        JobError: it has none.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise JobError(400, f"bad request: body: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise JobError(400, f"bad request: body: must be an object, not {type(document).__name__}")
    return document


def query_number(request: Request, name: str, low: int, high: int, default: int) -> int:
    """Return a number from the query.

    Raises:
        JobError: it is none, or not in its bounds.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise JobError(400, f"bad request: query: {name}={text!r} must be {low} to {high}")
    return int(text)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return what some work comes to, or None once the client is gone."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
