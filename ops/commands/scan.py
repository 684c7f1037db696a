"""`berth scan`: what ECR's scan found in the image that a stack runs, and whether its policy lets it pass."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ops import console
from ops.errors import OpsError, SilentFailureError
from ops.image_scan import Finding, Verdict, as_document, findings, judge
from ops.options import AsJson, StackName
from ops.stacks import open_stack

_COLOURS = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow"}


def scan(
    stack: StackName,
    sbom: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pull the image and write what is in it, as CycloneDX in JSON."),
    ] = None,
    as_json: AsJson = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a scan that is not finished.")
    ] = 300,
) -> None:
    """Show what ECR found in the image; exit status 1 if the stack's policy does not allow it."""
    opened = open_stack(stack)
    image = opened.outputs(show_secrets=False).get("image")
    if not isinstance(image, str):
        raise OpsError(f"the stack {stack} has no image: it is not deployed")
    if sbom is not None:
        from ops import bill_of_materials  # noqa: PLC0415  # only where it is asked for

        console.note(f"Pulling {image} to read what is in it")
        bill_of_materials.write(image, opened.environment(), sbom)
    found = findings(image, opened.environment(), timeout_seconds=timeout)
    policy = opened.settings.image.scan
    verdict = judge(found, policy, dt.datetime.now(dt.UTC).date())
    if as_json:
        console.print_json({"stack": stack, "image": image, **as_document(found, verdict, policy)})
    else:
        _show(image, found, verdict, policy.fail_on)
    if verdict.failing:
        raise SilentFailureError


def _show(image: str, found: list[Finding], verdict: Verdict, fail_on: str) -> None:
    if found:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("vulnerability", "severity", "package", "version", "policy"):
            table.add_column(heading, no_wrap=True)
        for each in found:
            policy = "fails" if each in verdict.failing else "allowed" if each in verdict.allowed else ""
            severity = Text(each.severity.lower(), _COLOURS.get(each.severity, ""))
            table.add_row(each.id, severity, each.package, each.version, policy)
        console.out.print(table)
    for name in verdict.expired:
        console.say(f"{name} was allowed until a day that is over: mend it, or set another day in image.scan")
    outcome = f"{len(verdict.failing)} of {len(found)} findings fail" if verdict.failing else "passed"
    console.say(f"{outcome}: {image}, which may have nothing {fail_on} or worse")
