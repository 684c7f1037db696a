"""A worker's log: what its container writes and what the platform says about it, line by line with a time."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEPT_LINES = 5000
_READ_BYTES = 1 << 20
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        number: counted from 1 over the worker's life.
        time: when it was seen, in UTC.
        source: "container" or "system".
        text: without its line end.
    """

    number: int
    time: str
    source: str
    text: str


class Logbook:
    """Collects the lines of one worker; the file may grow while it is read.

    Args:
        path: where the container's output goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self._offset = 0
        self._partial = b""
        self._number = 0

    def system(self, text: str) -> None:
        """Add what the platform says, after all that the container has written by now."""
        self.collect()
        for line in text.splitlines():
            self._add("system", line)

    def collect(self) -> None:
        """Take in what the container has written since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(_READ_BYTES):
                self._offset += len(chunk)
                *whole, self._partial = (self._partial + chunk).split(b"\n")
                for line in whole:
                    self._add(
                        "container", _TERMINAL_CODES.sub("", line.decode(errors="replace").rstrip("\r"))
                    )

    def after(self, number: int, source: str | None = None) -> list[Line]:
        """Return the lines after one, of one source or both."""
        return [line for line in self.lines if line.number > number and source in (None, line.source)]

    def _add(self, source: str, text: str) -> None:
        self._number += 1
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.lines.append(Line(self._number, time, source, text))
