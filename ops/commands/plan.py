"""`berth plan`: whether the model fits, on what, what it costs and how long it takes, before `up`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import console
from ops.errors import SilentFailureError, UsageError
from ops.options import AsJson, StackName
from ops.stacks import settings_of


def plan(
    stack: StackName,
    as_json: AsJson = False,
    requests_per_hour: Annotated[
        float, typer.Option(min=0.001, max=1e9, help="The load, while there is some.")
    ] = 1000,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Of a request; else 512, or what there is room for."),
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=0, help="Of an answer; else 128, and 0 where nothing is generated.")
    ] = None,
    hours_per_day: Annotated[float, typer.Option(min=0, max=24, help="How long there is load.")] = 24,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask neither a hub nor a cloud: use the tables that ship.")
    ] = False,
) -> None:
    """Say whether the model fits, on which machines, what they cost, and when the first token comes.

    Creates nothing and needs no account. Exit status 0 only if what the stack file chose fits.
    """
    # The program's packages take seconds to import, and few commands record it.
    from ops.plan import assembly, document, other_server, show  # noqa: PLC0415
    from ops.plan.monthly import Profile  # noqa: PLC0415
    from ops.plan.throughput import Load  # noqa: PLC0415

    settings = settings_of(stack)
    if settings.server is not None:
        unknown = other_server.document(settings, offline=offline)
        if as_json:
            console.print_json(unknown)
        else:
            console.out.print(show.machines_of_another_server(unknown))
        raise SilentFailureError
    load = Load.of(settings.model.task, settings.model.max_model_len, prompt_tokens, output_tokens)
    if load.tokens > settings.model.max_model_len:
        raise UsageError(
            f"--prompt-tokens and --output-tokens are {load.tokens} together, and berth:model.max_model_len "
            f"in {settings.file} is {settings.model.max_model_len}"
        )
    found = assembly.plan(settings, load, Profile(requests_per_hour, hours_per_day), offline=offline)
    if as_json:
        console.print_json(document.document(found))
    else:
        console.out.print(show.shown(found))
    if found.problems:
        raise SilentFailureError
