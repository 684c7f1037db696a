"""What the platform does to endpoints that nobody uses: it takes their workers away, in two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.store import Store

_DAY_SECONDS = 86_400
_STEPS = ((7 * _DAY_SECONDS, 0), (3 * _DAY_SECONDS, 2))
"""After so many seconds without a request, `workers.max` is so many at the most."""

_LOOK_SECONDS = 3600
_WORK = ("run", "runsync", "openai", "retry")
"""Operations of the job API that are requests for the endpoint's work."""


class IdleWatch:
    """Lowers `workers.max` of idle endpoints.

    An endpoint that was changed by hand is as one that was used: a limit that somebody raised stays raised
    for as long as a new endpoint's would.

    Args:
        store: with the endpoints.
        clock: the platform's time.
        lower: sets an endpoint's `workers.max` to a number, if it is more.
    """

    def __init__(self, store: Store, clock: Clock, lower: Callable[[str, int], Awaitable[None]]) -> None:
        self._store = store
        self._clock = clock
        self._lower = lower
        self._used: dict[str, float] = {}

    async def run(self) -> None:
        """Look at every endpoint once an hour, without end."""
        while True:
            now = self._clock.monotonic()
            # What is not known was made or started since the last look.
            self._used = {
                endpoint_id: self._used.get(endpoint_id, now) for endpoint_id in self._store.endpoints
            }
            for endpoint_id, used in self._used.items():
                most = next((most for seconds, most in _STEPS if now - used >= seconds), None)
                if most is not None:
                    await self._lower(endpoint_id, most)
            await self._clock.sleep(_LOOK_SECONDS)

    def watch(self, app: ASGIApp) -> ASGIApp:
        """Return an application that notes every request for an endpoint's work on its way to another."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if _uses(scope) in self._store.endpoints:
                self._used[_uses(scope)] = self._clock.monotonic()
            await app(scope, receive, send)

        return watched


def _uses(scope: Scope) -> str:
    """Return the id of the endpoint that a request uses or changes; empty for all other requests."""
    match scope.get("path", "").split("/"):
        case ["", "v2", "serverless", endpoint_id] if scope.get("method") == "PATCH":
            return str(endpoint_id)
        case ["", "api", "v2", endpoint_id, operation, *_] if operation in _WORK:
            return str(endpoint_id)
        case ["", endpoint_id, *_]:
            return str(endpoint_id)
        case _:
            return ""
