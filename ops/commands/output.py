"""`berth output`: what the last `up` has made known."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ops import console
from ops.errors import UsageError
from ops.options import AsJson, ShowSecrets, StackName
from ops.stacks import open_stack


def output(
    stack: StackName,
    name: Annotated[str | None, typer.Argument(help="One output; all of them when left out.")] = None,
    as_json: AsJson = False,
    show_secrets: ShowSecrets = False,
) -> None:
    """Show the outputs of the last `up`: URLs, model, image and more."""
    outputs = open_stack(stack).outputs(show_secrets=show_secrets)
    if name is not None:
        if name not in outputs:
            there = ", ".join(sorted(outputs)) or "none, for it is not up"
            raise UsageError(f"the stack {stack} has no output {name!r}; it has: {there}")
        value = outputs[name]
        if as_json:
            console.print_json(value)
        else:
            console.say(_plain(value))
    elif as_json:
        console.print_json(outputs)
    elif not outputs:
        console.say(f"The stack {stack} has no outputs: it is not up.")
    else:
        table = Table.grid(padding=(0, 2))
        for key, value in outputs.items():
            table.add_row(Text(key, "bold"), Text(_plain(value)))
        console.out.print(table)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
