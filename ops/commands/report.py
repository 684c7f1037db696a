"""`berth report`: what is known of a deployment, as one page and as Markdown."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ops import console, records
from ops.errors import OpsError, UsageError
from ops.options import AsJson, StackName
from ops.stacks import open_stack


def report(
    stack: StackName,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write; else results/STACK.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what is recorded of the last deployment as one page, report.html, and as report.md.

    Changes nothing else. What has no record is said, with the command that makes it.
    """
    opened = open_stack(stack)
    folder = records.FOLDER / stack if output is None else output
    files = {"html": folder / "report.html", "markdown": folder / "report.md"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        now = opened.resources()
    except OpsError:
        now = None
    # The program's packages take seconds to import, and so does what draws.
    from ops.report import assembly, evidence, planned, rendering  # noqa: PLC0415

    found = evidence.gather(stack, now)
    made = assembly.report(found, planned.planned(opened.settings, found, offline=False))
    try:
        files["html"].write_text(rendering.html(made))
        files["markdown"].write_text(rendering.markdown(made))
    except OSError as error:
        raise _refused(folder, error) from None
    if as_json:
        console.print_json({"files": {kind: str(path) for kind, path in files.items()}, **asdict(made)})
        return
    console.say(made.verdict.text)
    for path in files.values():
        console.say(f"  {path}")


def _refused(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"--output {folder}: cannot be written to: {error.strerror}")
