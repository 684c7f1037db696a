"""Faults on demand in REST v2, for tests: refusals, delays, replies lost before or after the effect."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from sandbox.runpod.problems import Problem, problem_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECRET_HEADER = "x-sandbox-secret"  # noqa: S105  # a header's name


class Fault(BaseModel):
    """One fault.

    Args:
        method: of the requests that it hits.
        path: a regular expression for their whole path.
        kind: `status` answers with an error and does nothing; `drop_before` breaks the connection and does
            nothing; `drop_after` does it and breaks the connection; `delay` waits, then goes on.
        status: of `status`.
        retry_after_seconds: in the answer's Retry-After.
        delay_seconds: of `delay`.
        count: how many requests it hits.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    method: str
    path: str
    kind: Literal["status", "drop_before", "drop_after", "delay"]
    status: int = Field(default=500, ge=400, le=599)
    retry_after_seconds: float | None = Field(default=None, ge=0)
    delay_seconds: float = Field(default=0.0, ge=0)
    count: int = Field(default=1, ge=1)

    def hits(self, scope: Scope) -> bool:
        """Say whether a request is one of those."""
        return self.method == scope["method"] and re.fullmatch(self.path, scope["path"]) is not None


@dataclass
class Faults:
    """ASGI middleware with the faults to come.

    Args:
        app: what answers when no fault does.
        secret: what the admin route asks for in the header `x-sandbox-secret`.
    """

    app: ASGIApp
    secret: str

    def __post_init__(self) -> None:
        self._faults: list[Fault] = []

    async def admin(self, request: Request) -> Response:
        """Add a fault (POST), list those to come (GET) or forget them (DELETE)."""
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self.secret.encode()):
            return problem_response(Problem(401, "missing or wrong sandbox secret"))
        if request.method == "POST":
            try:
                self._faults.append(Fault.model_validate_json(await request.body()))
            except pydantic.ValidationError as error:
                return problem_response(
                    Problem(422, "no such fault", [str(e["msg"]) for e in error.errors()])
                )
        elif request.method == "DELETE":
            self._faults.clear()
        return JSONResponse({"faults": [fault.model_dump() for fault in self._faults]})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the first fault that hits this request have its way, or none."""
        fault = self._take(scope) if scope["type"] == "http" else None
        if fault is None:
            await self.app(scope, receive, send)
        elif fault.kind == "status":
            headers = {}
            if fault.retry_after_seconds is not None:
                headers["Retry-After"] = f"{fault.retry_after_seconds:g}"
            problem = Problem(fault.status, "a fault that was asked for")
            await problem_response(problem, headers)(scope, receive, send)
        elif fault.kind == "delay":
            await asyncio.sleep(fault.delay_seconds)
            await self.app(scope, receive, send)
        else:
            if fault.kind == "drop_after":
                await self.app(scope, receive, _swallow)
            await _break_off(send)

    def _take(self, scope: Scope) -> Fault | None:
        for fault in self._faults:
            if fault.hits(scope):
                fault.count -= 1
                if not fault.count:
                    self._faults.remove(fault)
                return fault
        return None


async def _swallow(_message: Message) -> None:
    """Lose a part of the reply."""


async def _break_off(send: Send) -> None:
    """Announce a body that does not come: the server closes the connection, the client has no reply."""
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({})[:1].encode(), "more_body": True})
