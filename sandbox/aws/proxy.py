"""The load balancers' data plane: picks a target for each request, passes bytes both ways as they come."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import uvicorn
from moto.moto_api._internal.moto_random import MotoRandom

from sandbox.aws import routing
from sandbox.aws.health import Health, HealthChecker
from sandbox.aws.sockets import listen, tls_context, why_not

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Coroutine

    from starlette.types import Message, Receive, Scope, Send

    from sandbox.aws.routing import Listener, Target, TargetGroup, Tls

_log = logging.getLogger(__name__)
_CONNECT_SECONDS = 10.0
_STOP_SECONDS = 5.0
_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_REASONS = {
    404: "Not Found",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}


class DataPlane:
    """All listeners and health checks, in an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load-balancers", daemon=True)
        self._thread.start()
        self._running: dict[tuple[str, int], _RunningListener] = {}
        self._forwarder: _Forwarder = self._do(self._make())

    @staticmethod
    async def _make() -> _Forwarder:
        return _Forwarder(HealthChecker())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def apply(self, listeners: tuple[Listener, ...], groups: tuple[TargetGroup, ...]) -> dict[str, str]:
        """Listen on these listeners only, for these groups; returns why a listener (by ARN) cannot be."""
        failed: dict[str, str] = self._do(self._apply(listeners, groups))
        return failed

    async def _apply(
        self, listeners: tuple[Listener, ...], groups: tuple[TargetGroup, ...]
    ) -> dict[str, str]:
        self._forwarder.apply(groups)
        wanted = {(each.address, each.port): each for each in listeners}
        stopping = [self._running.pop(key) for key in list(self._running) if key not in wanted]
        if stopping:
            await asyncio.gather(*(each.stop() for each in stopping))
        failed: dict[str, str] = {}
        for key, listener in wanted.items():
            if key in self._running and self._running[key].tls == listener.tls:
                self._running[key].listener = listener
                continue
            if key in self._running:  # another certificate
                await self._running.pop(key).stop()
            try:
                listening = listen(*key)
            except OSError as error:
                failed[listener.arn] = why_not(error, *key)
                continue
            self._running[key] = _RunningListener(listener, listening, self._forwarder)
        return failed

    def health(self, group_arn: str) -> dict[str, Health]:
        """Return what is known of a group's targets, by their ids."""

        async def look() -> dict[str, Health]:
            return {
                target.id: health
                for (arn, target), health in self._forwarder.checker.health.items()
                if arn == group_arn
            }

        found: dict[str, Health] = self._do(look())
        return found

    def draining(self, group_arn: str) -> set[str]:
        """Return the ids of deregistered targets that still answer requests."""

        async def look() -> set[str]:
            return self._forwarder.draining(group_arn)

        found: set[str] = self._do(look())
        return found

    def stop(self) -> None:
        """Stop listening and checking."""
        self._do(self._apply((), ()))
        self._do(self._forwarder.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class _RunningListener:
    """A listener's server."""

    def __init__(self, listener: Listener, listening: socket.socket, forwarder: _Forwarder) -> None:
        self.listener = listener
        self._forwarder = forwarder
        self._tls = listener.tls
        config = uvicorn.Config(
            self._application,
            interface="asgi3",
            proxy_headers=False,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=max(1, int(listener.idle_timeout_seconds)),
            timeout_graceful_shutdown=int(_STOP_SECONDS),
            h11_max_incomplete_event_size=64 << 10,
        )
        config.load()
        config.ssl = tls_context(listener.tls) if listener.tls else None
        self._server = uvicorn.Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listening]))

    @property
    def tls(self) -> Tls | None:
        return self._tls

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._forwarder.answer(self.listener, scope, receive, send)


class _ClientGoneError(Exception):
    """The client closed its connection."""


class _Forwarder:
    """Answers requests by the rules of their listener."""

    def __init__(self, checker: HealthChecker) -> None:
        self.checker = checker
        self._groups: dict[str, TargetGroup] = {}
        self._turn = itertools.count()
        self._in_flight: dict[tuple[str, Target], set[asyncio.Task[None]]] = {}
        self._connections: dict[str, httpx.AsyncHTTPTransport] = {}

    def apply(self, groups: tuple[TargetGroup, ...]) -> None:
        """Send requests to these groups from now on."""
        before, self._groups = self._groups, {group.arn: group for group in groups}
        for (arn, target), tasks in self._in_flight.items():
            was = before.get(arn)
            now = self._groups.get(arn)
            if was is not None and target in was.targets and (now is None or target not in now.targets):
                for task in tasks:
                    asyncio.get_running_loop().call_later(was.deregistration_delay_seconds, task.cancel)
        self.checker.apply(groups)

    def draining(self, group_arn: str) -> set[str]:
        group = self._groups.get(group_arn)
        registered = {target.id for target in group.targets} if group else set()
        busy = {target.id for (arn, target), tasks in self._in_flight.items() if arn == group_arn and tasks}
        return busy - registered

    async def close(self) -> None:
        await self.checker.close()
        for connections in self._connections.values():
            await connections.aclose()

    def _connections_from(self, listener: Listener) -> httpx.AsyncHTTPTransport:
        """Return the connections of a load balancer to its targets.

        They come from its own address, and stay open for the requests to come as long as the idle timeout
        allows: a target that wants no more requests has to say so by its health check.
        """
        if listener.address not in self._connections:
            self._connections[listener.address] = httpx.AsyncHTTPTransport(
                verify=False,  # targets speak plain HTTP
                trust_env=False,
                local_address=listener.address,
                limits=httpx.Limits(
                    max_connections=None,
                    max_keepalive_connections=None,
                    keepalive_expiry=listener.idle_timeout_seconds,
                ),
            )
        return self._connections[listener.address]

    async def answer(self, listener: Listener, scope: Scope, receive: Receive, send: Send) -> None:
        request = _seen(scope)
        action = routing.choose(listener, request)
        if action["Type"] == "fixed-response":
            config = action["FixedResponseConfig"]
            body = (config.get("MessageBody") or "").encode()
            content_type = config.get("ContentType") or "text/plain"
            await _reply(send, int(config["StatusCode"]), body, [(b"content-type", content_type.encode())])
        elif action["Type"] == "redirect":
            config = action["RedirectConfig"]
            query = scope["query_string"].decode("latin-1")
            location = routing.redirect_location(config, request, listener, query)
            status = int(config["StatusCode"].removeprefix("HTTP_"))
            await _reply(send, status, b"", [(b"location", location.encode())])
        else:
            await self._forward(listener, routing.group_of(action), scope, receive, send)

    def _pick(self, group_arn: str) -> tuple[Target, TargetGroup] | None:
        """Return the next target in turn: a healthy one, or any where none is, as an ALB fails open."""
        group = self._groups.get(group_arn)
        if group is None or not group.targets:
            return None
        healthy = [each for each in group.targets if self.checker.health[group.arn, each].state == "healthy"]
        candidates = healthy or list(group.targets)
        return candidates[next(self._turn) % len(candidates)], group

    async def _forward(
        self, listener: Listener, group_arn: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        picked = self._pick(group_arn)
        if picked is None:
            await _fail(send, 503)
            return
        target, group = picked
        if target.address is None:
            await _fail(send, 502)
            return
        inbound = _Inbound(receive)
        relay = asyncio.ensure_future(self._relay(listener, target, scope, inbound, send))
        gone = asyncio.ensure_future(inbound.wait_until_gone())
        tasks = self._in_flight.setdefault((group.arn, target), set())
        tasks.add(relay)
        try:
            await asyncio.wait({relay, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not relay.done():
                relay.cancel()
            await relay
        except asyncio.CancelledError:
            # The client went away, or the target's time to finish is over: an answer that was begun stays
            # unfinished, and uvicorn closes the connection.
            relay.cancel()
        except _ClientGoneError:
            pass
        finally:
            gone.cancel()
            tasks.discard(relay)
            if not tasks:
                self._in_flight.pop((group.arn, target), None)

    async def _relay(
        self, listener: Listener, target: Target, scope: Scope, inbound: _Inbound, send: Send
    ) -> None:
        query = scope["query_string"]
        path = scope["raw_path"] + (b"?" + query if query else b"")
        url = httpx.URL(scheme="http", host=target.address, port=target.port, raw_path=path)
        idle = listener.idle_timeout_seconds
        timeout = httpx.Timeout(idle, connect=_CONNECT_SECONDS, pool=None)
        headers = _request_headers(scope, listener)
        has_body = any(name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"])
        request = httpx.Request(
            scope["method"],
            url,
            headers=headers,
            content=inbound.body() if has_body else None,
            extensions={"timeout": timeout.as_dict()},
        )
        if not has_body:
            inbound.finished.set()
        try:
            response = await self._connections_from(listener).handle_async_request(request)
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.ConnectTimeout):
            await _fail(send, 504)
            return
        except httpx.TransportError:
            await _fail(send, 502)
            return
        try:
            await _pass_on(response, send)
        except httpx.TransportError as error:
            _log.warning("target %s broke off in the middle of an answer: %s", target.id, error)
        finally:
            await response.aclose()


def _seen(scope: Scope) -> routing.Request:
    headers = tuple(
        (key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in scope["headers"]
    )
    query = tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    host = next((value for key, value in headers if key == "host"), "")
    client = scope["client"][0] if scope.get("client") else "127.0.0.1"
    path = scope["raw_path"].decode("latin-1")
    return routing.Request(scope["method"], path, host, query, headers, client)


def _request_headers(scope: Scope, listener: Listener) -> list[tuple[bytes, bytes]]:
    """Return the headers for the target: the client's, and those that an ALB adds."""
    client = scope["client"][0] if scope.get("client") else "127.0.0.1"
    kept, chain = [], [client]
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            chain.insert(0, value.decode("latin-1"))
        elif name not in _HOP_BY_HOP and name not in {b"x-forwarded-proto", b"x-forwarded-port"}:
            kept.append((name, value))
    kept += [
        (b"x-forwarded-for", ", ".join(chain).encode("latin-1")),
        (b"x-forwarded-proto", listener.protocol.lower().encode()),
        (b"x-forwarded-port", str(listener.port).encode()),
    ]
    if all(name != b"x-amzn-trace-id" for name, _ in kept):
        trace = f"Root=1-{int(time.time()):08x}-{_trace_ids.get_random_hex(24)}"
        kept.append((b"x-amzn-trace-id", trace.encode()))
    return kept


_trace_ids = MotoRandom()


async def _pass_on(response: httpx.Response, send: Send) -> None:
    """Pass a target's answer on, each piece when it comes."""
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _HOP_BY_HOP]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for chunk in response.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _reply(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"server", b"awselb/2.0"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _fail(send: Send, status: int) -> None:
    """Answer as an ALB does when it has no answer of a target."""
    title = f"{status} {_REASONS[status]}"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    page += "</body>\r\n</html>\r\n"
    await _reply(send, status, page.encode(), [(b"content-type", b"text/html")])


class _Inbound:
    """What the client sends: first the body, then nothing until it goes away."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.finished = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            yield message.get("body", b"")
            if not message.get("more_body", False):
                self.finished.set()
                return

    async def wait_until_gone(self) -> None:
        await self.finished.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
