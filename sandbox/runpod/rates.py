"""Counts what clients ask of each endpoint, and refuses what is over the platform's rates."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from sandbox.runpod.jobs import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.limits import Rate

_WINDOW_SECONDS = 10.0


class Rates:
    """What has been asked in this window of ten seconds, and what is being answered.

    Args:
        rates: by operation.
        clock: the platform's time.
    """

    def __init__(self, rates: Mapping[str, Rate], clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._window = 0
        self._asked: Counter[tuple[str, str]] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def admit(self, endpoint_id: str, operation: str) -> Iterator[None]:
        """Count one request for as long as it is answered.

        Raises:
            JobError: it is one too many.
        """
        key, rate = (endpoint_id, operation), self._rates.get(operation)
        window = int(self._clock.monotonic() / _WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._asked.clear()
        if rate is not None:
            too_many = rate.concurrent is not None and self._open[key] >= rate.concurrent
            if too_many or self._asked[key] >= rate.requests:
                raise JobError(429, "too many requests")
        self._asked[key] += 1
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
