"""Steady load on an endpoint from several clients at once, which notes every request that was lost."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

_TOKENS = 24
_PAUSE_SECONDS = 0.5
_FIRST_ANSWERS_SECONDS = 120


@dataclass
class Load:
    """Streamed chat completions, one after the other from each client, until the `with` block ends.

    A request is lost if it gets another status than 200, or its stream ends before `[DONE]`.
    """

    url: str
    key: str
    model: str
    clients: int = 3
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    lost_at: list[float] = field(default_factory=list)

    @property
    def outage_seconds(self) -> float:
        """How long it took from the first lost request to the last."""
        return max(self.lost_at) - min(self.lost_at) if self.lost_at else 0.0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        deadline = time.monotonic() + _FIRST_ANSWERS_SECONDS
        while self.answered < self.clients:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline, f"nothing answers: {self.lost}"
            self._stop.wait(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        print(
            f"load: {self.answered} answered, {len(self.lost)} lost in {self.outage_seconds:.0f} s"
            f" {self.lost[:3]}",
            flush=True,
        )

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=120) as http:
            await asyncio.gather(*(self._client(http) for _ in range(self.clients)))

    async def _client(self, http: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            started = time.strftime("%H:%M:%S")
            try:
                problem = await self._ask(http)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__} {error}"
            if problem is None:
                self.answered += 1
            else:
                self.lost.append(f"{started} {problem}")
                self.lost_at.append(time.monotonic())
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, http: httpx.AsyncClient) -> str | None:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Count."}],
            "max_tokens": _TOKENS,
            "ignore_eos": True,
            "stream": True,
        }
        async with http.stream("POST", f"{self.url}/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                return f"{reply.status_code} {(await reply.aread()).decode(errors='replace')[:200]}"
            last = ""
            async for line in reply.aiter_lines():
                last = line or last
        return None if last == "data: [DONE]" else f"the stream ended with {last[:100]!r}"
