"""What the commands write: to people on a terminal, to programs as JSON, errors apart from both."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from ops.errors import UsageError

# A file or a pipe has no width: there the rows of a table stay whole.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Write one line for people."""
    out.print(line, markup=False)


def note(message: str) -> None:
    """Write what may matter, and stops nothing, to standard error."""
    err.print(f"[dim]note:[/] {_escaped(message)}")


def error(message: str) -> None:
    """Write what went wrong to standard error."""
    err.print(f"[bold red]error:[/] {_escaped(message)}")


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    """Write one JSON document, and nothing else, to standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def require_consent(question: str, *, command: str) -> None:
    """Ask before something is done; return only on yes.

    Args:
        question: ends in a question mark.
        command: the command, for the message to one who cannot be asked.

    Raises:
        UsageError: there is no terminal to ask at, or the answer is not yes.
    """
    refuse_without_terminal(command)
    if out.input(f"{_escaped(question)} [bold]\\[y/N][/] ").strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done: the answer was not yes")


def refuse_without_terminal(command: str) -> None:
    """Raise UsageError when there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"there is no terminal to ask at: add --yes, and {command} does not ask")
