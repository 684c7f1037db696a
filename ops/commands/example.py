"""`berth example`: runs one of the examples, in an environment with PyTorch, vLLM and their packages."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from examples import environment
from ops import console
from ops.children import run_in_foreground
from ops.errors import OpsError


class Example(StrEnum):
    """The examples, by their modules in `examples`."""

    INTENTS = "intents"
    OFFLINE = "offline"


def example(
    context: typer.Context,
    name: Annotated[Example, typer.Argument(help="Which: examples/README.md tells of each.")],
) -> None:
    """Run an example: what follows its name, --help too, goes to it. Its environment is made on first use."""
    from ops.local import pass_pip_settings_on_to_uv  # noqa: PLC0415  # imports the whole sandbox

    pass_pip_settings_on_to_uv()
    try:
        environment.ensure(lambda line: console.err.print(line, markup=False))
    except environment.ExamplesError as error:
        raise OpsError(str(error)) from error
    command = environment.command(f"examples.{name}", *context.args)
    status = run_in_foreground(command, folder=Path.cwd(), environment=environment.variables())
    raise typer.Exit(status)
