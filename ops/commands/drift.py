"""`berth drift`: what has changed outside of the project since the last `up`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ops import console
from ops.drift import changes
from ops.endpoints import berth
from ops.errors import InterruptedCommandError, OpsError, SilentFailureError
from ops.options import AsJson, StackName
from ops.stacks import open_stack

if TYPE_CHECKING:
    from ops.drift import Change

_LONGEST_VALUE = 200


class CouldNotLookError(OpsError):
    """Whether anything has changed is not known."""

    exit_status = 2


def drift(stack: StackName, as_json: AsJson = False) -> None:
    """Compare the stack's resources with what its clouds have now, and say who changed what. Changes nothing.

    Exit status: 0 no drift, 1 drift, 2 could not look. What is meant to change, such as the number of
    machines under an autoscaler, is shown and is no drift.
    """
    try:
        opened = open_stack(stack)
        found = changes(opened.drift(), opened.settings)
    except InterruptedCommandError:
        raise
    except OpsError as error:
        raise CouldNotLookError(str(error)) from error
    drifted = [change for change in found if not change.expected]
    if as_json:
        console.print_json(
            {"stack": stack, "drift": bool(drifted), "changes": [asdict(change) for change in found]}
        )
    else:
        _show(stack, found, drifted=len(drifted))
    if drifted:
        raise SilentFailureError


def _show(stack: str, found: list[Change], *, drifted: int) -> None:
    before = None
    for change in found:
        if (change.type, change.resource) != before:
            before = change.type, change.resource
            console.out.print(Text(f"{change.type} {change.resource}", "bold"))
        values = f"{_value(change.before)} => {_value(change.after)}"
        line = f"{change.path}: {values}" if change.path else "is gone"
        console.out.print(Text(f"  {line}", "dim" if change.expected else "yellow"))
        console.out.print(Text(f"      by {change.owner}{'; expected' if change.expected else ''}", "dim"))
    if not drifted:
        expected = f", beside {len(found)} expected changes" if found else ""
        console.say(f"No drift{expected}: the stack {stack} is as the last `up` left it.")
        return
    console.say(
        f"{drifted} changed outside. To put it back: {berth()} refresh --stack {stack}, then"
        f" {berth()} up --stack {stack}; to keep it, write it into stacks/Pulumi.{stack}.yaml first."
    )


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
