"""`berth jobs`: the queue of a stack's endpoint on RunPod, and what can be done with a job in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ops import console
from ops.endpoints import berth, runpod_endpoint
from ops.errors import SilentFailureError, UsageError
from ops.options import AsJson, StackName, Yes
from ops.stacks import open_stack

if TYPE_CHECKING:
    from ops.job_queue import JobQueue

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as /run answered it.")]

jobs = typer.Typer(invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False)

_COUNTS = {
    "inQueue": "queued",
    "inProgress": "in progress",
    "completed": "completed",
    "failed": "failed",
    "retried": "retried",
}
_FAILED = ("FAILED", "TIMED_OUT", "CANCELLED")


@jobs.callback()
def counts(
    context: typer.Context,
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", metavar="NAME", help="The stack: one file of stacks/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many jobs wait, run and are done on RunPod; or ask for one, cancel, retry or purge."""
    if context.invoked_subcommand is not None:
        # The options may stand before the subcommand as well as after it.
        given = {key: value for key, value in {"stack": stack, "as_json": as_json}.items() if value}
        context.default_map = {context.invoked_subcommand: given}
        return
    if stack is None:
        raise UsageError(f"--stack is missing: {berth()} jobs --stack NAME")
    health = _queue(stack).health()
    if as_json:
        console.print_json({"stack": stack, **health})
        return
    table = Table.grid(padding=(0, 2))
    for key, label in _COUNTS.items():
        table.add_row(Text(label, "bold"), Text(str(health["jobs"].get(key, 0))))
    workers = ", ".join(f"{count} {status}" for status, count in health["workers"].items() if count)
    table.add_row(Text("workers", "bold"), Text(workers or "none"))
    console.out.print(table)


@jobs.command()
def status(job: JobId, stack: StackName, as_json: AsJson = False) -> None:
    """Show a job: its state, how long it waited and ran, and its output or its error.

    Exit status 1 if the job has failed, timed out or was cancelled.
    """
    answer = _queue(stack).status(job)
    _show(answer, as_json=as_json)
    if answer.get("status") in _FAILED:
        raise SilentFailureError


@jobs.command()
def cancel(job: JobId, stack: StackName, as_json: AsJson = False) -> None:
    """Cancel a job that waits or runs."""
    _show(_queue(stack).cancel(job), as_json=as_json)


@jobs.command()
def retry(job: JobId, stack: StackName, as_json: AsJson = False) -> None:
    """Put a job that failed or timed out into the queue again."""
    _show(_queue(stack).retry(job), as_json=as_json)


@jobs.command()
def purge(stack: StackName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take every job that waits out of the queue; those that run go on."""
    queue = _queue(stack)
    if not yes:
        waiting = queue.health()["jobs"].get("inQueue", 0)
        console.require_consent(
            f"Take {waiting} jobs out of the queue of {stack} for good?", command="jobs purge"
        )
    answer = queue.purge()
    if as_json:
        console.print_json(answer)
    else:
        console.say(f"{answer.get('removed', 0)} jobs were taken out of the queue.")


def _queue(stack: str) -> JobQueue:
    # An HTTP client takes a quarter of the start of every command, and few ask.
    from ops.job_queue import JobQueue  # noqa: PLC0415

    return JobQueue(runpod_endpoint(open_stack(stack)))


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(job)
        return
    table = Table.grid(padding=(0, 2))
    for key, value in job.items():
        if key not in {"output", "error", "input"}:
            unit = " ms" if key in {"delayTime", "executionTime"} else ""
            table.add_row(Text(key, "bold"), Text(f"{value}{unit}"))
    console.out.print(table)
    for key in ("error", "output"):
        if key in job:
            value = job[key]
            console.say(value if isinstance(value, str) else json.dumps(value, indent=2))
