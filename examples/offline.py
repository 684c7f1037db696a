"""Generates without a server, by vLLM's `LLM` class, with the very engine that the servers of a stack have.

    berth example offline --stack qwen2-7b "The harbour master said" "Once upon a time"

The arguments come from the stack file by the same functions as the servers' (infra/serving.py): what is
generated here, and how fast, says something about the deployment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra import serving
from infra.settings import SettingsError, load
from sandbox import model

_STACKS = Path(__file__).resolve().parent.parent / "stacks"
_PROMPTS = ["The largest harbour of the world is", "A container ship is", "Cranes on the quay are"]


def main(
    prompts: Annotated[list[str] | None, typer.Argument(help="What to continue.")] = None,
    stack: Annotated[str, typer.Option(help="Whose model and settings to take.")] = "qwen2-7b",
    max_tokens: Annotated[int, typer.Option(min=1, help="How many tokens to add at the most.")] = 32,
) -> None:
    """Generate the continuation of prompts in one batch, without a server."""
    try:
        settings = load(_STACKS / f"Pulumi.{stack}.yaml")
    except SettingsError as error:
        sys.exit(f"error: {error}")
    if settings.model.task != "generate":
        sys.exit(f"error: {settings.file}: berth:model.task is {settings.model.task}: it does not generate")
    # Importing vLLM takes seconds, in which a wrong stack file would stay unsaid.
    from vllm import LLM, EngineArgs, SamplingParams  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.platforms import current_platform  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]  # noqa: PLC0415

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([*serving.spec(settings).args])
    # `vllm serve` takes the model as an argument of its own; those for the server alone are passed over.
    arguments.model = arguments.model_tag
    if current_platform.is_cpu():
        model.ensure(settings.model.name, settings.model.revision, lambda line: print(line, file=sys.stderr))
        arguments.enforce_eager = True  # as the sandbox's servers: to compile takes longer than to generate
    engine = LLM.from_engine_args(EngineArgs.from_cli_args(arguments))
    try:
        outputs = engine.generate(prompts or _PROMPTS, SamplingParams(max_tokens=max_tokens, temperature=0))
    except ValueError as error:  # such as a prompt that is longer than max_model_len
        sys.exit(f"error: {error}")
    for output in outputs:
        print(f"{output.prompt!r} -> {output.outputs[0].text!r}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="berth example offline")
