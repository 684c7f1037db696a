"""`berth preflight`: before `up`, everything that can be known by asking and reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ops import console
from ops.errors import SilentFailureError
from ops.options import AsJson, StackName
from ops.stacks import open_stack

if TYPE_CHECKING:
    from ops.preflight.findings import Result

_STYLES = {"yes": "green", "no": "bold red", "not known": "yellow"}


def preflight(stack: StackName, as_json: AsJson = False) -> None:
    """Ask whether `up` can go well: accounts, permissions, quotas, machines, model. Changes nothing.

    Exit status 0 only if nothing is no. What is not known counts as no, unless nobody could tell it.
    """
    # boto3 and the program's packages take seconds to import, which no other command is to wait for.
    from ops.preflight.look import look  # noqa: PLC0415
    from ops.progress import Progress  # noqa: PLC0415

    opened = open_stack(stack)
    with Progress(console.err, quiet=True) as progress:
        found = look(opened, progress)
    if as_json:
        console.print_json(_document(stack, found))
    else:
        _show(stack, found)
    if not all(result.finding.passes for result in found):
        raise SilentFailureError


def _document(stack: str, found: list[Result]) -> dict[str, Any]:
    return {
        "stack": stack,
        "ready": all(result.finding.passes for result in found),
        "checks": [
            {
                "subject": result.subject,
                "check": result.name,
                "answer": result.finding.answer,
                "passes": result.finding.passes,
                "seen": result.finding.seen,
                "fix": result.finding.fix or None,
            }
            for result in found
        ],
    }


def _show(stack: str, found: list[Result]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "answer", "seen"):
        table.add_column(heading, overflow="fold", no_wrap=not console.out.is_terminal)
    for result in found:
        finding = result.finding
        table.add_row(
            f"{result.subject}: {result.name}",
            Text(finding.answer, _STYLES[finding.answer]),
            # A command of a fix is to be copied as it stands: it has a line of its own.
            Text(finding.seen),
        )
        if finding.fix:
            table.add_row("", "", Text(f"fix: {finding.fix}", "dim"))
    console.out.print(table)
    against = sum(not result.finding.passes for result in found)
    if against:
        console.say(f"\n{against} of {len(found)} answers are against `up` of the stack {stack}.")
    else:
        console.say(f"\nNothing that can be known is against `up` of the stack {stack}.")
