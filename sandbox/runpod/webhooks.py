"""Posts results of jobs to where their clients want them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from sandbox.runpod.clock import Clock

_TRIES = 3
_PAUSE_SECONDS = 10.0
_ANSWER_SECONDS = 10.0


class Webhooks:
    """Results on their way.

    Args:
        clock: the platform's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, url: str, document: dict[str, Any]) -> None:
        """Have a result posted; an answer that is not 2xx, or none, is followed by two more tries."""
        task = asyncio.create_task(self._post(url, document), name="webhook")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what has not arrived."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _post(self, url: str, document: dict[str, Any]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS) as http:
            for number in range(_TRIES):
                if number:
                    await self._clock.sleep(_PAUSE_SECONDS)
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.post(url, json=document)).is_success:
                        return
