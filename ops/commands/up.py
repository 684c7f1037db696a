"""`berth up`: makes the deployment what the stack file says."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ops import console
from ops.change_records import recorded
from ops.commands.smoke import prove
from ops.endpoints import Endpoint, berth, endpoints_of
from ops.options import AsJson, StackName, Yes
from ops.stacks import LOCAL, Stack, open_stack


def up(
    stack: StackName,
    yes: Yes = False,
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Ask each endpoint at the end, as `berth smoke` does.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Create or change the deployment until it is what the stack file says; then ask it, and tell how to.

    An internal load balancer is not asked, as this machine need not reach it; nor is anything with --json.
    """
    opened = open_stack(stack)
    with recorded(opened, "up", asks=not yes):
        opened.up(yes=yes, as_json=as_json)
    if as_json:
        return
    outputs = opened.outputs(show_secrets=True)
    endpoints = endpoints_of(opened, outputs)
    _show(opened, outputs, endpoints)
    if smoke:
        _ask(opened, outputs, endpoints)


def _ask(stack: Stack, outputs: dict[str, Any], endpoints: list[Endpoint]) -> None:
    eks = stack.settings.eks
    closed = stack.name != LOCAL and eks is not None and eks.load_balancer.internal
    reached = [endpoint for endpoint in endpoints if not (closed and endpoint.platform == "eks")]
    if len(reached) < len(endpoints):
        console.say(
            "\nThe load balancer is internal: where it can be reached, run "
            f"{berth()} smoke --stack {stack.name}"
        )
    if reached:
        console.out.print("\n[dim]Does it answer? RunPod may have to start a worker first.[/]")
        prove(stack, outputs, reached)


def _show(stack: Stack, outputs: dict[str, Any], endpoints: list[Endpoint]) -> None:
    model = outputs["model"]
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
