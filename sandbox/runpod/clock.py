"""The platform's time, which may run faster than this machine's."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Result = TypeVar("Result")


class Clock:
    """Counts the platform's seconds: what it waits for, keeps, bills and dates goes by them.

    Args:
        speed: how many of the platform's seconds pass in one of this machine's; more than 0.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed {speed} must be more than 0")
        self._speed = speed
        self._begun = time.monotonic()
        self._begun_at = datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the platform's seconds since it began to count."""
        return (time.monotonic() - self._begun) * self._speed

    def now(self) -> datetime:
        """Return the platform's date, in UTC."""
        return self._begun_at + timedelta(seconds=self.monotonic())

    def real(self, seconds: float) -> float:
        """Return how many of this machine's seconds pass in so many of the platform's."""
        return seconds / self._speed

    async def sleep(self, seconds: float) -> None:
        """Wait so many of the platform's seconds."""
        await asyncio.sleep(self.real(seconds))

    def call_later(self, seconds: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Have a function called after so many of the platform's seconds."""
        return asyncio.get_running_loop().call_later(self.real(seconds), callback, *args)

    async def wait_for(self, awaitable: Awaitable[Result], seconds: float | None) -> Result:
        """Wait for a result, so many of the platform's seconds at the most; None is without end.

        Raises:
            TimeoutError: it did not come in time.
        """
        async with asyncio.timeout(None if seconds is None else self.real(seconds)):
            return await awaitable
