"""`berth smoke`: asks every endpoint of a stack, and says no unless all of it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ops import console, records
from ops.endpoints import Endpoint, endpoints_of
from ops.engine_logs import kv_cache_tokens
from ops.errors import SilentFailureError
from ops.options import AsJson, StackName
from ops.progress import Progress
from ops.stacks import Stack, open_stack

if TYPE_CHECKING:
    from ops.smoke import Report

LIMIT_SECONDS = 900


def smoke(
    stack: StackName,
    as_json: AsJson = False,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How long to wait until an endpoint is ready.")
    ] = LIMIT_SECONDS,
) -> None:
    """Ask each endpoint for what its model is for, and see that it refuses those without the key.

    Waits for a worker that is not there yet. Exit status 0 only if all of it holds at every endpoint.
    """
    opened = open_stack(stack)
    outputs = opened.outputs(show_secrets=True)
    prove(opened, outputs, endpoints_of(opened, outputs), as_json=as_json, limit_seconds=timeout)


def prove(
    opened: Stack,
    outputs: dict[str, Any],
    endpoints: list[Endpoint],
    *,
    as_json: bool = False,
    limit_seconds: int = LIMIT_SECONDS,
) -> None:
    """Ask endpoints, show what they did and keep it.

    Args:
        opened: the stack.
        outputs: its outputs, with secrets.
        endpoints: those to ask.
        as_json: write one JSON document and nothing else.
        limit_seconds: how long to wait until an endpoint is ready.

    Raises:
        SilentFailureError: one of them does not do all that it should; it is on the screen.
    """
    # An HTTP client takes a quarter of the start of every command, and only this one asks.
    from ops import smoke as checks  # noqa: PLC0415
    from ops.reasons import Looker  # noqa: PLC0415

    looker = Looker(opened.runpod_api(), opened.environment(), outputs.get("kubeconfig"))
    with Progress(console.err if as_json else console.out, quiet=as_json) as progress:
        reports = checks.run(
            endpoints,
            # A stack that was brought up by an older version says its model alone.
            outputs.get("models") or [outputs["model"]],
            task=outputs.get("task") or opened.settings.model.task,
            limit_seconds=limit_seconds,
            look=looker,
            say=progress.report,
        )
    document = {
        "stack": opened.name,
        "model": outputs["model"],
        "ok": all(report.ok for report in reports),
        "endpoints": [report.as_json() for report in reports],
    }
    room = {
        report.endpoint.platform: kv_cache_tokens(
            report.endpoint,
            runpod_api=opened.runpod_api(),
            environment=opened.environment(),
            kubeconfig=outputs.get("kubeconfig"),
        )
        for report in reports
        if report.ok
    }
    records.keep(opened.name, "smoke", {**document, "kv_cache_tokens": room})
    if as_json:
        console.print_json(document)
    else:
        _show(reports)
    if not document["ok"]:
        raise SilentFailureError


def _show(reports: list[Report]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("endpoint", "check", "", "first token", "latency", "tokens", "tokens/s"):
        table.add_column(heading, justify="left" if heading in {"endpoint", "check", ""} else "right")
    for report in reports:
        for check in report.checks:
            figures = []
            if check.latency_seconds is not None:
                figures = ["", f"{check.latency_seconds * 1000:.0f} ms"]
            if check.answer is not None:
                first = check.answer.first_token_seconds
                figures = [
                    "" if first is None else f"{first * 1000:.0f} ms",
                    f"{check.answer.latency_seconds * 1000:.0f} ms",
                    str(check.answer.completion_tokens),
                    f"{check.answer.tokens_per_second:.1f}",
                ]
            verdict = "[green]yes[/]" if check.problem is None else "[bold red]no[/]"
            table.add_row(report.endpoint.platform, check.name, verdict, *figures)
    console.out.print(table)
    for report in reports:
        for check in report.checks:
            if check.problem is not None:
                console.error(f"{report.endpoint.platform}: {check.name}: {check.problem}")
