"""Jobs that name a route of vLLM: OpenAI's by way of the platform, and any other."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from queue_door.errors import of_event
from queue_door.fields import Fields, described, wrong
from queue_door.streaming import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from queue_door.engine import Engine

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_OPENAI_ROUTE = "/v1/chat/completions"


async def openai(engine: Engine, job_id: str, given: dict[str, Any]) -> AsyncIterator[Any]:
    """Pass on what the platform makes of a request to `/openai/v1/…`: `openai_route`, `openai_input`."""
    fields = Fields(given)
    route = _route(fields, "openai_route", _OPENAI_ROUTE)
    body = fields.rest.pop("openai_input", None) or None
    if body is not None and not isinstance(body, dict):
        raise wrong("openai_input", f"must be an object, not {described(body)}")
    _nothing_else(fields, "openai_route, openai_input")
    async for output in _pass_on(engine, job_id, route, body, None):
        yield output


async def any_route(engine: Engine, job_id: str, given: dict[str, Any]) -> AsyncIterator[Any]:
    """Pass on a request to any route of vLLM: `route`, `body`, `method`."""
    fields = Fields(given)
    route = _route(fields, "route", None)
    body = fields.rest.pop("body", None) or None
    if body is not None and not isinstance(body, dict | list):
        raise wrong("body", f"must be an object or a list, not {described(body)}")
    method = fields.one_of("method", _METHODS, "GET" if body is None else "POST")
    _nothing_else(fields, "route, body, method")
    async for output in _pass_on(engine, job_id, route, body, method):
        yield output


def _route(fields: Fields, name: str, default: str | None) -> str:
    route = fields.text(name, default)
    if not route.startswith("/") or route.startswith("//"):
        raise wrong(name, f"is {route!r}: it must be a path of vLLM's server, such as {_OPENAI_ROUTE}")
    return route


def _nothing_else(fields: Fields, allowed: str) -> None:
    for name in fields.rest:
        raise wrong(name, f"is not known here: such a job has {allowed}")


async def _pass_on(
    engine: Engine, job_id: str, route: str, body: dict[str, Any] | list[Any] | None, method: str | None
) -> AsyncIterator[Any]:
    async with engine.request(route, body, job_id, method) as response:
        if response.content_type == "text/event-stream":
            async for piece in pieces(engine, response):
                yield piece.decode(errors="replace")
            return
        content = await response.read()
    output = _output(response, content)
    if isinstance(output, dict) and isinstance(output.get("error"), dict):
        raise of_event(output["error"])
    yield output


def _output(response: aiohttp.ClientResponse, content: bytes) -> Any:
    """Return a whole answer as JSON can hold it."""
    if response.content_type == "application/json":
        return json.loads(content)
    if response.content_type.startswith("text/") or not content:
        return content.decode(errors="replace")
    return {"content_type": response.content_type, "base64": base64.b64encode(content).decode()}
