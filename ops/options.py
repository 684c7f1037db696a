"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

StackName = Annotated[
    str,
    typer.Option("--stack", "-s", metavar="NAME", help="The stack: one file of stacks/, for example local."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document and nothing else.")]
ShowSecrets = Annotated[bool, typer.Option("--show-secrets", help="Write secrets in clear.")]
