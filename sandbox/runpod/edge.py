"""The load balancer: `/<endpoint id>/...` goes to a worker, streamed both ways, with nothing kept back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import httpx

from sandbox.runpod.balancer_pool import BalancerPool, NoWorkerError
from sandbox.runpod.problems import edge_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.limits import Limits
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.worker import Worker

WORKER_HEADER = "x-runpod-worker-id"
_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
# The key opens the whole account: it is checked here and is none of a worker's business.
_NOT_FOR_WORKERS = _HOP_BY_HOP | {b"authorization", b"host"}


class _TooLargeError(Exception):
    """A request is over the platform's limit."""


class _Exchange:
    """One request on its way: whether its response has begun, so that no second one is attempted."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, chunk: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


class Edge:
    """Forwards requests.

    Args:
        pool_of: returns an endpoint's workers, or None where there is no such endpoint.
        authorized: says whether an `Authorization` header opens the account.
        limits: the platform's.
        clock: the platform's time.
    """

    def __init__(
        self,
        pool_of: Callable[[str], Pool | None],
        authorized: Callable[[str | None], bool],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._pool_of = pool_of
        self._authorized = authorized
        self._limits = limits
        self._clock = clock
        self._http = httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(None, connect=5.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def close(self) -> None:
        """Close the connections to workers."""
        await self._http.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request as an ASGI application."""
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if not self._authorized(authorization):
            await edge_error(401, "unauthorized")(scope, receive, send)
            return
        pool = self._pool_of(scope["path_params"]["endpoint_id"])
        if pool is None:
            await edge_error(404, "endpoint not found")(scope, receive, send)
            return
        if not isinstance(pool, BalancerPool):
            await edge_error(400, "not allowed for QB API")(scope, receive, send)
            return
        if int(headers.get(b"content-length", b"0")) > self._limits.payload_bytes:
            await edge_error(413, _too_large(self._limits))(scope, receive, send)
            return
        exchange = _Exchange(send)
        refusal: Response | None = None
        with anyio.move_on_after(self._clock.real(self._limits.request_seconds)) as limit:
            refusal = await self._exchange(pool, scope, receive, exchange)
        if limit.cancelled_caught:
            refusal = edge_error(504, f"request took longer than {self._limits.request_seconds:.0f} s")
        if refusal is not None and not exchange.started:
            await refusal(scope, receive, send)
        # A response that has begun and cannot be finished is broken off: the server closes the connection.

    async def _exchange(
        self, pool: BalancerPool, scope: Scope, receive: Receive, exchange: _Exchange
    ) -> Response | None:
        """Wait for a worker and forward; return what to refuse with, if anything."""
        writer, reader = anyio.create_memory_object_stream[bytes](
            float("inf")
        )  # bounded by the payload limit
        refusal: Response | None = None
        async with anyio.create_task_group() as group:
            too_large = anyio.Event()

            async def listen() -> None:
                try:
                    await self._listen(receive, writer)
                except _TooLargeError:
                    too_large.set()
                group.cancel_scope.cancel()  # the client is gone, or is refused: so is the request

            group.start_soon(listen)
            try:
                async with pool.lease() as worker:
                    refusal = await self._forward(worker, scope, reader, exchange)
            except NoWorkerError as error:
                refusal = edge_error(error.status, str(error))
            finally:
                reader.close()
            group.cancel_scope.cancel()
        if too_large.is_set():
            refusal = edge_error(413, _too_large(self._limits))
        return refusal

    async def _listen(self, receive: Receive, writer: MemoryObjectSendStream[bytes]) -> None:
        """Take in the request's body as it comes; return when the client is gone."""
        size = 0
        with writer:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > self._limits.payload_bytes:
                    raise _TooLargeError
                if chunk:
                    with contextlib.suppress(anyio.BrokenResourceError):  # a worker may answer before the end
                        writer.send_nowait(chunk)
                if not message.get("more_body", False):
                    writer.close()

    async def _forward(
        self, worker: Worker, scope: Scope, body: MemoryObjectReceiveStream[bytes], exchange: _Exchange
    ) -> Response | None:
        _, _, path = scope["raw_path"].decode("latin-1").removeprefix("/").partition("/")
        query = scope["query_string"].decode("latin-1")
        headers = [pair for pair in scope["headers"] if pair[0].lower() not in _NOT_FOR_WORKERS]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        request = self._http.build_request(
            scope["method"],
            f"{worker.url}/{path}" + (f"?{query}" if query else ""),
            headers=headers,
            content=_chunks(body) if has_body else None,
        )
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            worker.connection_lost()
            return edge_error(502, f"worker {worker.id} broke off: {error or type(error).__name__}")
        try:
            kept = [pair for pair in response.headers.raw if pair[0].lower() not in _HOP_BY_HOP]
            await exchange.start(response.status_code, [*kept, (WORKER_HEADER.encode(), worker.id.encode())])
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > self._limits.payload_bytes:
                    return edge_error(502, _too_large(self._limits))
                await exchange.body(chunk, more=True)
            await exchange.body(b"", more=False)
        except httpx.HTTPError as error:
            return edge_error(502, f"worker {worker.id} broke off: {error or type(error).__name__}")
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()  # the worker sees the client gone
        return None


def _too_large(limits: Limits) -> str:
    return f"payload is larger than {limits.payload_bytes // 1_000_000} MB"


async def _chunks(body: MemoryObjectReceiveStream[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield chunk
