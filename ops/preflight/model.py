"""Whether the hub gives out the model and its adapters, and whether the chosen machines hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops import models
from ops.errors import OpsError
from ops.plan.assembly import misfits
from ops.plan.other_server import PROBLEM
from ops.preflight.findings import Check, Finding, no, unknown, yes
from ops.preflight.tools import hub_token
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.stacks import Stack


def checks(stack: Stack) -> list[Check]:
    """Return the questions about the model; the stack `local` makes one where it cannot have it."""
    settings = stack.settings
    found = [Check("model", "fits", lambda: _fits(settings))]
    if stack.name != LOCAL and settings.model.revision:
        found.append(Check("model", "hub", lambda: _hub(stack)))
    return found


def _hub(stack: Stack) -> Finding:
    notes: list[str] = []
    try:
        models.require(stack.settings, token=lambda: hub_token(stack), note=notes.append)
    except OpsError as error:
        refused = " ".join(str(error).split())
        return no(refused, f"https://huggingface.co/{stack.settings.model.name}, or the repository it names")
    if notes:
        return unknown(
            notes[0], "set HF_ENDPOINT to a hub that this machine reaches, and the proxy's variables"
        )
    adapters = stack.settings.model.adapters
    return yes(stack.settings.model.name + (f" and {len(adapters)} adapters" if adapters else ""))


def _fits(settings: Settings) -> Finding:
    if settings.server is not None:
        return unknown(PROBLEM, "try it on the machine that the stack names", askable=False)
    plan = f"./berth plan --stack {settings.stack}"
    try:
        found = misfits(settings)
    except OpsError as error:
        return unknown(str(error), plan)
    if found:
        return no("; ".join(found), plan)
    return yes("on every machine and pool that the stack names, by the estimate of berth plan")
