"""What deploys the stack: the Pulumi CLI, its backend and the stack in it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ops import pulumi_cli
from ops.errors import OpsError
from ops.preflight.findings import Check, Finding, no, yes
from ops.stacks import LOCAL, PROJECT_FOLDER

if TYPE_CHECKING:
    from ops.stacks import Stack

_LIMIT_SECONDS = 20.0


def checks(stack: Stack) -> list[Check]:
    """Return the questions about the Pulumi CLI, which the stack `local` does without."""
    if stack.name == LOCAL:
        return []
    return [Check("Pulumi", "CLI", _cli), Check("Pulumi", "state", lambda: _state(stack))]


def hub_token(stack: Stack) -> str | None:
    """Return the stack's secret hubToken; None if it has none or there is no Pulumi CLI to ask."""
    if isinstance(stack, pulumi_cli.PulumiStack) and pulumi_cli.find_cli() is not None:
        return stack.hub_token()
    return None


def _cli() -> Finding:
    try:
        found = pulumi_cli.find_cli()
        if found is None:
            return no("there is no Pulumi CLI on PATH", pulumi_cli.HOW_TO_GET_IT)
        return yes(f"{found} {pulumi_cli.version_of(found)}")
    except OpsError as error:
        return no(str(error), pulumi_cli.HOW_TO_GET_IT)


def _state(stack: Stack) -> Finding:
    try:
        found = pulumi_cli.find_cli()
    except OpsError:
        found = None
    if found is None:
        return no("there is no Pulumi CLI that could look", pulumi_cli.HOW_TO_GET_IT)
    questions = (
        (("whoami",), "pulumi login s3://YOUR-STATE-BUCKET, or any other backend"),
        (
            ("stack", "--stack", stack.name, "--show-name"),
            f"pulumi stack init {stack.name} --secrets-provider awskms://alias/YOUR-KEY",
        ),
    )
    said = ""
    for words, fix in questions:
        done = subprocess.run(
            [found, *words, "--non-interactive"],
            cwd=PROJECT_FOLDER,
            env={**stack.environment(), "PULUMI_SKIP_UPDATE_CHECK": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_SECONDS,
        )
        if done.returncode != 0:
            return no(" ".join((done.stderr or done.stdout).split()), fix)
        said = said or done.stdout.strip()
    return yes(f"{said or 'somebody'} is logged in, and the stack {stack.name} is there")
