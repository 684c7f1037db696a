"""Faults on demand, for tests: replies refused, late or lost; workers throttled, killed, left unanswered."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import JSONResponse, Response

from sandbox.runpod.news import News
from sandbox.runpod.problems import Problem, problem_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECRET_HEADER = "x-sandbox-secret"  # noqa: S105  # a header's name


class _Fault(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class RequestFault(_Fault):
    """A fault in how a request is answered: of REST v2, the job API or the worker protocol.

    Args:
        kind: `status` answers with an error and does nothing; `drop_before` breaks the connection and does
            nothing; `drop_after` does it and breaks the connection; `delay` waits, then goes on.
        method: of the requests that it hits.
        path: a regular expression for their whole path.
        status: of `status`.
        detail: what the answer of `status` says.
        retry_after_seconds: in that answer's Retry-After.
        delay_seconds: of `delay`, on this machine's clock.
        count: how many requests it hits.
    """

    kind: Literal["status", "drop_before", "drop_after", "delay"]
    method: str
    path: str
    status: int = Field(default=500, ge=400, le=599)
    detail: str = "a fault that was asked for"
    retry_after_seconds: float | None = Field(default=None, ge=0)
    delay_seconds: float = Field(default=0.0, ge=0)
    count: int = Field(default=1, ge=1)

    def hits(self, scope: Scope) -> bool:
        """Say whether a request is one of those."""
        return self.method == scope["method"] and re.fullmatch(self.path, scope["path"]) is not None


class WorkerFault(_Fault):
    """A fault in the machines of one endpoint.

    Args:
        kind: `kill_worker` kills a worker that is ready with SIGKILL, a busy one before an idle one, and
            waits for one where there is none; `hang_poll` leaves a worker's question for jobs without an
            answer until the worker gives up or the faults are forgotten.
        endpoint: the endpoint's id.
        count: how many workers, or questions, it hits.
    """

    kind: Literal["kill_worker", "hang_poll"]
    endpoint: str
    count: int = Field(default=1, ge=1)


class CapacityFault(_Fault):
    """A shortage, which lasts until the faults are forgotten.

    Args:
        kind: `no_capacity`: new workers of the endpoint stay THROTTLED; those that are there stay.
        endpoint: the endpoint's id.
    """

    kind: Literal["no_capacity"]
    endpoint: str


Fault = RequestFault | WorkerFault | CapacityFault
Kind = TypeVar("Kind", RequestFault, WorkerFault, CapacityFault)
_FAULT: TypeAdapter[Fault] = TypeAdapter(Annotated[Fault, Field(discriminator="kind")])


class Faults:
    """The faults to come.

    Args:
        secret: what the admin route asks for in the header `x-sandbox-secret`.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._faults: list[Fault] = []
        self._changes = News()

    async def admin(self, request: Request) -> Response:
        """Add a fault (POST), list those to come (GET) or forget them (DELETE)."""
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self._secret.encode()):
            return problem_response(Problem(401, "missing or wrong sandbox secret"))
        if request.method == "POST":
            try:
                self._faults.append(_FAULT.validate_json(await request.body()))
            except pydantic.ValidationError as error:
                return problem_response(
                    Problem(422, "no such fault", [str(e["msg"]) for e in error.errors()])
                )
        elif request.method == "DELETE":
            self._faults.clear()
            self._changes.tell()
        return JSONResponse({"faults": [fault.model_dump() for fault in self._faults]})

    def lasts(self, kind: Literal["no_capacity"], endpoint_id: str) -> bool:
        """Say whether an endpoint has a fault of a kind that lasts."""
        return any(fault.kind == kind and fault.endpoint == endpoint_id for fault in self._of(CapacityFault))

    def take(self, kind: Literal["kill_worker", "hang_poll"], endpoint_id: str) -> bool:
        """Use up one fault of an endpoint's workers; say whether there was one."""
        for fault in self._of(WorkerFault):
            if fault.kind == kind and fault.endpoint == endpoint_id:
                self._use(fault)
                return True
        return False

    async def forgotten(self) -> None:
        """Wait until the faults are forgotten."""
        await self._changes.next.wait()

    def around(self, app: ASGIApp, refuse: Callable[[int, str, dict[str, str]], Response]) -> ASGIApp:
        """Return an application that lets the first fault that hits a request have its way, or none.

        Args:
            app: what answers when no fault does.
            refuse: makes an error's answer from its status, text and headers.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self._hitting(scope) if scope["type"] == "http" else None
            if fault is None:
                await app(scope, receive, send)
            elif fault.kind == "status":
                headers = {}
                if fault.retry_after_seconds is not None:
                    headers["Retry-After"] = f"{fault.retry_after_seconds:g}"
                await refuse(fault.status, fault.detail, headers)(scope, receive, send)
            elif fault.kind == "delay":
                await asyncio.sleep(fault.delay_seconds)
                await app(scope, receive, send)
            else:
                if fault.kind == "drop_after":
                    await app(scope, receive, _swallow)
                await _break_off(send)

        return answer

    def _of(self, kind: type[Kind]) -> list[Kind]:
        return [fault for fault in self._faults if isinstance(fault, kind)]

    def _hitting(self, scope: Scope) -> RequestFault | None:
        for fault in self._of(RequestFault):
            if fault.hits(scope):
                self._use(fault)
                return fault
        return None

    def _use(self, fault: RequestFault | WorkerFault) -> None:
        fault.count -= 1
        if not fault.count:
            self._faults.remove(fault)


async def _swallow(_message: Message) -> None:
    """Lose a part of the reply."""


async def _break_off(send: Send) -> None:
    """Announce a body that does not come: the server closes the connection, the client has no reply."""
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({})[:1].encode(), "more_body": True})
