"""`berth leftovers`: what a stack has left, or has now, in its accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ops import console, records
from ops.errors import SilentFailureError
from ops.options import AsJson, StackName
from ops.stacks import open_stack

if TYPE_CHECKING:
    from ops.leftovers.look import Leftovers


def leftovers(
    stack: StackName,
    expect_none: Annotated[
        bool, typer.Option("--expect-none", help="Exit with 1 if there is anything, as after a destroy.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find everything of the stack in its AWS account and region and on RunPod. Changes nothing.

    Exit status 1 also says that something could not be looked at.
    """
    # boto3 takes a quarter of a second, which no other command is to wait for.
    from ops.leftovers.look import look  # noqa: PLC0415

    seen = look(open_stack(stack))
    document = _document(stack, seen)
    records.keep(stack, "leftovers", {**document, "expect_none": expect_none})
    if as_json:
        console.print_json(document)
    else:
        _show(stack, seen)
    if seen.unseen or (expect_none and seen.staying):
        raise SilentFailureError


def _document(stack: str, seen: Leftovers) -> dict[str, Any]:
    return {
        "stack": stack,
        "account": seen.account,
        "region": seen.region,
        "found": [
            {
                "what": item.kind,
                "id": item.id,
                "where": item.place,
                "why": why,
                "hourly_usd": item.hourly_usd,
                "goes_by_itself": item.going,
                "part_of": item.part_of,
                "remove": item.remove or None,
            }
            for item, why in seen.found
        ],
        "looked_at": seen.looked_at,
        "not_looked_at": [{"what": item.what, "why": item.why} for item in seen.unseen],
    }


def _show(stack: str, seen: Leftovers) -> None:
    where = f"AWS account {seen.account or '(not known)'}, {seen.region}, and RunPod"
    if seen.found:
        console.out.print(_table(seen))
        console.say(f"\n{len(seen.found)} things of the stack {stack} in {where}; {_cost(seen)}")
        commands = [item.remove for item, _ in seen.staying if item.remove]
        if commands:
            console.say(
                "To remove them one by one, from top to bottom (what a stack still has, `destroy` removes):"
            )
        for command in commands:
            console.say(f"  {command}")
    elif seen.account is None and not seen.unseen:
        console.say(f"Nothing of the stack {stack} is left: its clouds do not run, and hold nothing.")
    elif not seen.unseen:
        console.say(f"Nothing of the stack {stack} is in {where}.")
    for unseen in seen.unseen:
        console.out.print(Text(f"not looked at: {unseen.what}: {unseen.why}", "yellow"))


def _table(seen: Leftovers) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("what", "id", "why", "$ an hour"):
        table.add_column(heading, overflow="fold", no_wrap=not console.out.is_terminal)
    for item, why in seen.found:
        note = f"; goes by itself on {item.going}" if item.going else ""
        note += f"; goes with {item.part_of}" if item.part_of else ""
        table.add_row(item.kind, item.id, why + note, _price(item.hourly_usd))
    return table


def _price(hourly_usd: float | None) -> str:
    if hourly_usd is None:
        return "not known"
    return f"{hourly_usd:.4f}" if hourly_usd else "0"


def _cost(seen: Leftovers) -> str:
    known = sum(item.hourly_usd or 0.0 for item, _ in seen.found)
    unknown = sum(item.hourly_usd is None for item, _ in seen.found)
    more = f" and what {unknown} of them cost by their type or by what is in them" if unknown else ""
    return f"${known:.2f} an hour at list prices{more}"
