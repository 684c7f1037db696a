"""`berth env`: the variables under which other tools work on the stack `local`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ops import console
from ops.errors import UsageError
from ops.options import StackName
from ops.stacks import LOCAL, open_stack


def env(
    stack: StackName,
    name: Annotated[str | None, typer.Argument(help="Write only this variable's value.")] = None,
) -> None:
    """Write the variables by which `pulumi` and `aws` work on the stack `local`, for the shell's eval."""
    if stack != LOCAL:
        raise UsageError(f"only the stack {LOCAL} has variables of its own; {stack} uses those of your shell")
    variables = open_stack(stack).environment()
    if name is None:
        for key, value in variables.items():
            console.say(f"export {key}={shlex.quote(value)}")
    elif name in variables:
        console.say(variables[name])
    else:
        raise UsageError(f"there is no variable {name!r}; there are: {', '.join(sorted(variables))}")
