"""`berth bench`: measures a stack's endpoints, settings of its server, and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops import console, records
from ops.endpoints import berth
from ops.errors import InterruptedCommandError, OpsError, SilentFailureError, UsageError
from ops.options import AsJson, StackName
from ops.progress import Progress
from ops.stacks import open_stack, settings_of

if TYPE_CHECKING:
    from ops.bench.compare import Comparison

# The modules of ops.bench are imported where they are used: an HTTP client and the plan's packages cost most
# of a second, which no other command is to wait for.
bench = typer.Typer(invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False)

Concurrency = Annotated[
    str | None,
    typer.Option(metavar="N,N", help="Requests at once; else 1,16,64, and 1,8 where nothing is generated."),
]
PromptTokens = Annotated[
    str | None,
    typer.Option(metavar="N,N", help="Of a prompt; 64+1024 mixes both. Else 512, or what there is room for."),
]
OutputTokens = Annotated[str | None, typer.Option(metavar="N,N", help="Of an answer; else 128.")]
BatchSize = Annotated[
    str | None, typer.Option(metavar="N,N", help="Inputs of a request, of pooling models; else 1,32.")
]
AudioSeconds = Annotated[
    str | None, typer.Option(metavar="N,N", help="Of sound that is transcribed; else 10,30.")
]
Requests = Annotated[
    int | None,
    typer.Option(min=1, max=1_000_000, metavar="N", help="Of each; else 4 times those at once, 8 at least."),
]
RequestTimeout = Annotated[
    int, typer.Option(min=1, max=3600, metavar="SECONDS", help="After which a request is an error.")
]
Milliseconds = Annotated[
    float | None, typer.Option(min=0.001, metavar="MS", help="The best may not exceed it.")
]


@bench.callback()
def matrix(
    context: typer.Context,
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", metavar="NAME", help="The stack: one file of stacks/.")
    ] = None,
    platform: Annotated[
        str | None, typer.Option(metavar="eks|runpod", help="The one to measure; else all of the stack.")
    ] = None,
    concurrency: Concurrency = None,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    batch_size: BatchSize = None,
    audio_seconds: AudioSeconds = None,
    requests: Requests = None,
    request_timeout: RequestTimeout = 300,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How long to wait until an endpoint is ready.")
    ] = 900,
    as_json: AsJson = False,
) -> None:
    """Measure a stack's endpoints, by requests at once and by lengths of prompts and answers.

    Exit status 0 only if every request was answered. What is measured is kept in results/, also of a run that
    is interrupted.
    """
    if context.invoked_subcommand is not None:
        # The options may stand before the subcommand as well as after it.
        given = {key: value for key, value in context.params.items() if value}
        context.default_map = {context.invoked_subcommand: given}
        return
    if stack is None:
        raise UsageError(f"--stack is missing: {berth()} bench --stack NAME")
    from ops.bench.stack import StackBench  # noqa: PLC0415
    from ops.bench.workload import Axes  # noqa: PLC0415

    opened = open_stack(stack)
    axes = Axes(concurrency, prompt_tokens, output_tokens, batch_size, audio_seconds, requests)
    run = StackBench(opened, axes.workloads(opened.settings), platform)
    if not as_json:
        for line in run.announcement():
            console.say(line)

    def measure(progress: Progress) -> None:
        run.measure(progress, request_limit_seconds=request_timeout, ready_limit_seconds=timeout)

    _do(measure, run.document, stack, as_json=as_json)


@bench.command()
def sweep(
    stack: StackName,
    settings: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE,VALUE...", help="Such as serving.max_num_seqs=64,128."),
    ],
    concurrency: Concurrency = "16",
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    batch_size: BatchSize = None,
    audio_seconds: AudioSeconds = None,
    requests: Requests = None,
    ttft_p99_ms: Milliseconds = None,
    itl_p99_ms: Milliseconds = None,
    request_timeout: RequestTimeout = 300,
    as_json: AsJson = False,
) -> None:
    """Try settings of the server on this machine, and mark the best throughput within a latency bound.

    Starts vLLM with the stack's own arguments for each combination, on this machine's GPUs, or without any on
    its CPU. No cloud is asked. Prompts are the usual ones, and short and long ones mixed. Exit status 0 only
    if each workload has a best.
    """
    from ops.bench import sweep as trials  # noqa: PLC0415
    from ops.bench.workload import Axes  # noqa: PLC0415

    axes = Axes(concurrency, prompt_tokens, output_tokens, batch_size, audio_seconds, requests)
    bound = trials.Bound(ttft_p99_ms, itl_p99_ms)
    run = trials.Sweep(settings_of(stack), settings, axes, bound, quiet=as_json)
    if not as_json:
        for line in run.announcement():
            console.say(line)

    def measure(progress: Progress) -> None:
        run.measure(progress, request_limit_seconds=request_timeout)

    _do(measure, run.document, stack, as_json=as_json)


@bench.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A record of results/.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show two records side by side: what differs, and B's figures by A's for each workload of both."""
    from ops.bench import compare as records_compared  # noqa: PLC0415

    found = records_compared.compare(records.read(first), records.read(second))
    if as_json:
        console.print_json(found.as_json())
    else:
        _show_comparison(found)


def _do(measure: Callable[[Progress], None], document: dict[str, Any], stack: str, *, as_json: bool) -> None:
    """Measure, then keep and show what there is, however it ended."""
    problem: OpsError | None = None
    try:
        with Progress(console.err if as_json else console.out, quiet=as_json) as progress:
            measure(progress)
    except KeyboardInterrupt:
        kept = "what was measured until then is kept" if document["rows"] else "nothing was measured yet"
        problem = InterruptedCommandError(f"interrupted: {kept}")
    except OpsError as error:
        problem = error
    rows = document["rows"]
    if rows:
        document["complete"] = problem is None
        path = records.keep(stack, "bench", document)
        if as_json:
            console.print_json(document)
        else:
            _show(rows, path)
    if problem is not None:
        raise problem
    if not document["ok"]:
        raise SilentFailureError


def _show(rows: list[dict[str, Any]], path: Path) -> None:
    from ops.bench import show  # noqa: PLC0415

    measured = [row for row in rows if "workload" in row]
    if measured:
        console.out.print(show.table(measured))
    for line in show.remarks(rows):
        console.out.print(line)
    console.say(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _show_comparison(found: Comparison) -> None:
    from ops.bench import show  # noqa: PLC0415

    for part in show.comparison(found):
        console.out.print(part)
