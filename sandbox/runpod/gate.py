"""What every request of REST v2 passes: its id, the account's key, the account's rate limits."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from sandbox.runpod.problems import Problem, problem_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sandbox.runpod.clock import Clock

_WINDOWS = {"minute": (60, 60), "hour": (3600, 3000), "day": (86_400, 50_000)}
"""Length in seconds and requests of each window, as RunPod publishes them."""


class RateLimits:
    """The account's requests in each window of time.

    Args:
        clock: the platform's time.
        enforced: requests by window (`minute`, `hour`, `day`) above which the platform refuses; the others
            are shown as RunPod publishes them and refuse nothing.
    """

    def __init__(self, clock: Clock, enforced: Mapping[str, int]) -> None:
        self._clock = clock
        self._enforced = enforced
        self._quotas = {name: enforced.get(name, quota) for name, (_, quota) in _WINDOWS.items()}
        self._used = dict.fromkeys(_WINDOWS, 0)
        self._ends = dict.fromkeys(_WINDOWS, 0.0)
        self.policy = ", ".join(
            f'"{name}";q={self._quotas[name]};w={seconds}' for name, (seconds, _) in _WINDOWS.items()
        )

    def take(self) -> str | None:
        """Count a request, unless a window is full; return which."""
        now = self._clock.monotonic()
        for name, (seconds, _) in _WINDOWS.items():
            if now >= self._ends[name]:
                self._used[name], self._ends[name] = 0, now + seconds
        full = next((name for name, quota in self._enforced.items() if self._used[name] >= quota), None)
        if full is None:
            for name in self._used:
                self._used[name] += 1
        return full

    def left_seconds(self, window: str) -> int:
        """Return how many of the caller's seconds it takes until a window begins anew."""
        return math.ceil(self._clock.real(max(self._ends[window] - self._clock.monotonic(), 0)))

    @property
    def state(self) -> str:
        """What is left in each window."""
        return ", ".join(
            f'"{name}";r={max(quota - self._used[name], 0)};t={self.left_seconds(name)}'
            for name, quota in self._quotas.items()
        )


class Gate:
    """ASGI middleware before the operations.

    Args:
        app: the operations.
        is_key: says whether an Authorization header carries the account's key.
        limits: the account's rate limits.
    """

    def __init__(self, app: ASGIApp, is_key: Callable[[str | None], bool], limits: RateLimits) -> None:
        self._app = app
        self._is_key = is_key
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or let through one request; its reply says what is left of the rate limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        added = {"x-request-id": str(uuid.uuid4())}
        app = self._app
        if not self._is_key(authorization):
            detail = "invalid bearer token" if authorization else "missing bearer token"
            app = problem_response(Problem(401, detail))
        else:
            full = self._limits.take()
            added |= {"RateLimit": self._limits.state, "RateLimit-Policy": self._limits.policy}
            if full is not None:
                added["Retry-After"] = str(self._limits.left_seconds(full))
                app = problem_response(Problem(429, f"rate limit exceeded for the {full} window"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(added)
            await send(message)

        await app(scope, receive, send_with_headers)
