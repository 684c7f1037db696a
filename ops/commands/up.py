"""`berth up`: makes the deployment what the stack file says."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ops import console
from ops.change_records import recorded
from ops.endpoints import berth, endpoints_of
from ops.options import AsJson, StackName, Yes
from ops.stacks import LOCAL, Stack, open_stack


def up(stack: StackName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Create or change the deployment until it is what the stack file says; then tell how to ask it."""
    opened = open_stack(stack)
    with recorded(opened, "up", asks=not yes):
        opened.up(yes=yes, as_json=as_json)
    if not as_json:
        _show(opened)


def _show(stack: Stack) -> None:
    outputs = stack.outputs(show_secrets=True)
    model = outputs["model"]
    endpoints = endpoints_of(stack, outputs)
    table = Table.grid(padding=(0, 2))
    for endpoint in endpoints:
        table.add_row(Text(endpoint.platform, "bold"), Text(endpoint.url))
        if endpoint.console and stack.name != LOCAL:
            table.add_row("", Text(endpoint.console))
    table.add_row(Text("model", "bold"), Text(model))
    table.add_row(Text("image", "bold"), Text(outputs["image"]))
    console.out.print()
    console.out.print(table)
    for endpoint in endpoints:
        console.out.print(f"\n[dim]Ask {endpoint.platform}:[/]")
        console.say(endpoint.curl(model, stack.settings.model.task))
    console.out.print(f"\n[dim]Prove that each answers:[/] {berth()} smoke --stack {stack.name}")
