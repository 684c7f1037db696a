"""Asks others, and goes on without those that do not answer in time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")


def within(seconds: float, asked: Mapping[str, Callable[[], _T]]) -> dict[str, _T | Exception]:
    """Return what each has answered, or the error that it ended with; who is late is left out.

    In threads that hold up no end of the process: the look-up of a host's name cannot be broken off.

    Args:
        seconds: how long all of them have, together.
        asked: by name, what asks.
    """
    answers: dict[str, _T | Exception] = {}

    def ask(name: str, question: Callable[[], _T]) -> None:
        try:
            answers[name] = question()
        except Exception as error:  # noqa: BLE001  # whatever it is, there is a table in its place
            answers[name] = error

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in asked.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)
