"""Shows several parts that work side by side: a live line for each, or plain lines without a terminal."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops import console

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console


class Progress:
    """What each part does now and for how long it has been at work.

    Args:
        target: where it is shown; a terminal gets live lines that vanish at the end, anything else one plain
            line for each change.
        quiet: show nothing where there is no terminal.
    """

    def __init__(self, target: Console = console.out, *, quiet: bool = False) -> None:
        self._console = target
        self._quiet = quiet and not target.is_terminal
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._lines: dict[str, str] = {}
        self._live = Live(
            console=target, get_renderable=self._render, refresh_per_second=4, transient=True
        ) if target.is_terminal else None  # fmt: skip

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def report(self, part: str, line: str) -> None:
        """Say what a part does now; safe to call from any thread."""
        line = line.removeprefix(f"{part}: ")
        with self._lock:
            changed = self._lines.get(part) != line
            self._lines[part] = line
            if changed and self._live is None and not self._quiet:
                self._console.print(f"{part}: {line}", markup=False)

    def _render(self) -> Table:
        elapsed = time.monotonic() - self._begun
        grid = Table.grid(padding=(0, 2))
        with self._lock:
            for part, line in self._lines.items():
                grid.add_row(
                    Text(part, style="bold"),
                    Text(f"{elapsed:4.0f} s", style="dim"),
                    Text(line, overflow="ellipsis", no_wrap=True),
                )
        return grid
