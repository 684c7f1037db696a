"""Shows an operation: a live tree on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sandbox.engine import diffs
from sandbox.engine.state import name_of, type_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sandbox.engine.result import Result
    from sandbox.engine.steps import Step

_MARKS = {
    "create": ("+", "green", "creating", "created"),
    "update": ("~", "yellow", "updating", "updated"),
    "delete": ("-", "red", "deleting", "deleted"),
    "create-replacement": ("+-", "magenta", "replacing", "replaced"),
    "delete-replaced": ("--", "red", "deleting the replaced one", "deleted the replaced one"),
    "refresh": ("?", "cyan", "reading", "read"),
    "same": (" ", "dim", "checking", "unchanged"),
}
_VERBS = {"preview": "Previewing", "update": "Updating", "refresh": "Refreshing", "destroy": "Destroying"}
_SUMMARY = {
    "create": "to create",
    "update": "to update",
    "replace": "to replace",
    "delete": "to delete",
    "same": "unchanged",
    "refresh": "read",
}
_DONE = {"to create": "created", "to update": "updated", "to replace": "replaced", "to delete": "deleted"}
_REFRESHES_PER_SECOND = 8


@dataclass
class _Row:
    """One step on the screen."""

    step: Step
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    error: str | None = None
    message: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started


class Display:
    """Plain lines: one when a step has ended or says something, and a summary.

    Args:
        console: where to write; standard output by default.
        quiet: write nothing but warnings, those to standard error: for machine-readable output.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        # Wrapped lines would break what people search logs for.
        self.console = console or Console(file=sys.stderr if quiet else None, soft_wrap=True, highlight=False)
        self.quiet = quiet
        self._lock = threading.RLock()
        self._kind = ""
        self._rows: dict[tuple[str, str], _Row] = {}

    def begin(self, kind: str, stack: str) -> None:
        """An operation begins."""
        self._kind, self._rows = kind, {}
        if not self.quiet:
            self.console.print(f"{_VERBS[kind]} the stack {stack}", markup=False)

    def end(self) -> None:
        """It has ended, well or not."""

    def step_started(self, step: Step) -> None:
        """A step begins."""
        with self._lock:
            self._rows[step.urn, step.op] = row = _Row(step)
            if self._kind != "preview" and step.op not in ("same", "refresh") and not step.internal:
                self._line(self._text(row))

    def step_ended(self, step: Step, error: str | None) -> None:
        """A step has ended, with an error or without."""
        with self._lock:
            row = next(row for row in self._rows.values() if row.step is step)
            row.ended, row.error = time.monotonic(), error
            shown = step.op not in ("same", "refresh") and not step.internal and self._kind != "preview"
            if error or shown:
                self._line(self._text(row))

    def message(self, severity: str, text: str, urn: str = "", *, ephemeral: bool = False) -> None:
        """The program, a provider or the engine says something, perhaps about a resource."""
        with self._lock:
            for row in self._rows.values():
                if row.step.urn == urn and row.ended is None:
                    row.message = text.splitlines()[-1] if text.strip() else ""
            self._say(severity, text, urn, ephemeral=ephemeral)

    def _say(self, severity: str, text: str, urn: str, *, ephemeral: bool) -> None:  # noqa: ARG002
        about = f"{name_of(urn)}: " if urn.count("::") >= 3 else ""
        if severity in ("warning", "error"):
            self.console.print(Text(f"{severity}: {about}{text}", "yellow"))
        elif text.strip():
            self._line(Text(f"   {about}{text}", "dim"))

    def _line(self, text: Text) -> None:
        if not self.quiet:
            self.console.print(text)

    def _text(self, row: _Row) -> Text:
        mark, style, doing, done = _MARKS[row.step.op]
        preview = self._kind == "preview"
        verb = "failed" if row.error else doing if row.ended is None else done
        text = Text(f"{mark:>2} {type_of(row.step.urn)} {row.step.name}", style)
        text.append("" if preview and not row.error else f" {verb}", "red" if row.error else style)
        if row.ended is not None and not preview:
            text.append(f" ({row.seconds:.1f} s)", "dim")
        return text

    def result(self, result: Result, error: str | None) -> None:
        """The operation's outcome."""
        if self.quiet:
            return
        if result.kind in ("preview", "refresh"):
            for step in result.steps:
                for line in diffs.lines(step):
                    self.console.print(line)
        counts = []
        for op, number in result.changes.items():
            word = _SUMMARY.get(op, op)
            counts.append(f"{number} {word if result.kind == 'preview' else _DONE.get(word, word)}")
        summary = ", ".join(counts) or "nothing to do"
        ended = "failed after " if error else ""
        self.console.print(f"{ended}{summary} ({result.duration_seconds:.1f} s)", markup=False)


class LiveDisplay(Display):
    """A tree on a terminal: what runs, for how long, and what it waits for."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console or Console(highlight=False))
        self._live: Live | None = None

    def begin(self, kind: str, stack: str) -> None:
        """An operation begins."""
        super().begin(kind, stack)
        self._live = Live(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def end(self) -> None:
        """It has ended, well or not."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step_started(self, step: Step) -> None:
        """A step begins."""
        with self._lock:
            self._rows[step.urn, step.op] = _Row(step)

    def _say(self, severity: str, text: str, urn: str, *, ephemeral: bool) -> None:
        # What comes and goes is shown beside its resource only.
        if severity in ("warning", "error") or not ephemeral:
            super()._say(severity, text, urn, ephemeral=ephemeral)

    def result(self, result: Result, error: str | None) -> None:
        """The operation's outcome, below the tree."""
        self.end()
        super().result(result, error)

    def _render(self) -> RenderableType:
        # Without the lock: whoever holds it may be waiting for the console, which this is called from.
        rows = list(self._rows.values())
        running = [row for row in rows if row.ended is None and not row.step.internal]
        same = sum(row.ended is not None and row.step.op == "same" for row in rows)
        lines: list[RenderableType] = []
        urns = {row.step.urn for row in running}
        for row in running:
            resource = row.step.new or row.step.old
            nested = resource is not None and resource.parent in urns
            line = Text("   └ " if nested else " ")
            line.append_text(self._text(row))
            line.append(f" {row.seconds:4.0f} s", "dim")
            if row.message:
                line.append(f"  {row.message}", "cyan")
            line.truncate(max(self.console.width - 1, 20), overflow="ellipsis")
            lines.append(line)
        if same:
            lines.append(Text(f"   {same} unchanged", "dim"))
        return Group(*lines)


def make_display(console: Console | None = None, *, quiet: bool = False) -> Display:
    """Return the display that fits where the output goes."""
    if quiet:
        return Display(console, quiet=True)
    live = (console or Console()).is_terminal
    return LiveDisplay(console) if live else Display(console)
