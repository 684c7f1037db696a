"""Routes of REST v2: one for each path, which knows all of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    Operation = Callable[[Request], Awaitable[Response]]


def route(path: str, **operations: Operation) -> Route:
    """Return the route of a path.

    Args:
        path: below `/v2`.
        operations: by HTTP method; HEAD is as GET.
    """

    async def answer(request: Request) -> Response:
        return await operations["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(operations))
