"""The kubelet's back-off: at once after the first failure, then 10 s, doubled each time, up to 5 minutes."""

from __future__ import annotations

import time

INITIAL_SECONDS = 10.0
LONGEST_SECONDS = 300.0
# What went well for this long is forgiven.
_RESET_SECONDS = 2 * LONGEST_SECONDS


class Backoff:
    """How long to wait before something is tried again.

    Args:
        at_once: whether the first failure costs no time (as a container's restart; an image pull's does).
    """

    def __init__(self, *, at_once: bool) -> None:
        self._first = 0.0 if at_once else INITIAL_SECONDS
        self._delay: float | None = None
        self._failed_at = 0.0

    def failed(self) -> float:
        """Take note of a failure; return the seconds to wait."""
        now = time.monotonic()
        if self._delay is None or now - self._failed_at - self._delay > _RESET_SECONDS:
            self._delay = self._first
        elif self._delay == 0:
            self._delay = INITIAL_SECONDS
        else:
            self._delay = min(2 * self._delay, LONGEST_SECONDS)
        self._failed_at = now
        return self._delay
