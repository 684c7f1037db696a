"""`berth logs`: what the servers of a stack write, on every platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ops import console, log_lines
from ops.endpoints import endpoints_of
from ops.errors import InterruptedCommandError, OpsError, UsageError
from ops.log_lines import OneOf
from ops.options import StackName
from ops.stacks import open_stack

if TYPE_CHECKING:
    from ops.log_lines import Line, Platform

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


def logs(
    stack: StackName,
    worker: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this worker on RunPod, or pod on EKS.")
    ] = None,
    platform: Annotated[
        Literal["eks", "runpod"] | None, typer.Option(help="Only this platform; else all of the stack.")
    ] = None,
    source: Annotated[
        Literal["container", "system"] | None,
        typer.Option(help="Only what the server writes, or what RunPod says about the worker."),
    ] = None,
    tail: Annotated[
        int, typer.Option(min=0, max=5000, metavar="N", help="How many lines of before, of each.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the logs of workers and pods: what is there, or with --follow what is written from now on."""
    if source == "system" and platform == "eks":
        raise UsageError("--source system is what RunPod says about a worker: EKS has none")
    platforms = _platforms(stack, platform, source, tail)
    if worker is not None:
        platforms = [_one(platforms, worker)]
    show = _Printer(prefixed=worker is None)
    try:
        if follow:
            log_lines.follow(platforms, show, until_gone=worker is not None)
            _note(f"{worker} is gone")
        else:
            for each in platforms:
                before = show.lines
                for line in log_lines.written(each):
                    show(line)
                if show.lines == before:
                    _note(f"{each.name}: there is no line")
    except KeyboardInterrupt:
        raise InterruptedCommandError("") from None


class _Printer:
    """Writes lines, each with its worker or pod in a colour of its own where there may be several."""

    def __init__(self, *, prefixed: bool) -> None:
        self.lines = 0
        self._prefixed = prefixed
        self._styles: dict[str, str] = {}

    def __call__(self, line: Line) -> None:
        """Write one line."""
        self.lines += 1
        # What a server writes may try to steer the terminal: colours stay, all else is taken out.
        text = Text.from_ansi(line.text)
        if line.source == "system":
            text.stylize("italic")
        if self._prefixed:
            style = self._styles.setdefault(line.origin, _COLOURS[len(self._styles) % len(_COLOURS)])
            text = Text.assemble((f"{line.origin} | ", style), text)
        console.out.print(text)


def _note(text: str) -> None:
    console.err.print(Text(text, "dim"))


def _platforms(stack: str, platform: str | None, source: str | None, tail: int) -> list[Platform]:
    opened = open_stack(stack)
    outputs = opened.outputs(show_secrets=True)
    found: list[Platform] = []
    for endpoint in endpoints_of(opened, outputs, platform):
        if endpoint.platform == "runpod":
            # Either platform's client is a quarter of a second of imports that the other does not need.
            from ops.runpod import Runpod  # noqa: PLC0415
            from ops.worker_logs import WorkerLogs  # noqa: PLC0415

            runpod = Runpod(opened.runpod_api(), endpoint)
            found.append(WorkerLogs(runpod, source=source, tail=tail))
        elif source != "system":
            from ops.pod_logs import PodLogs  # noqa: PLC0415

            found.append(PodLogs(outputs["kubeconfig"], opened.environment(), tail=tail))
    return found


def _one(platforms: list[Platform], origin: str) -> Platform:
    """Return the platform that has this worker or pod, with it alone."""
    there = []
    for platform in platforms:
        one = OneOf(platform, origin)
        if one.origins():
            return one
        there += platform.origins()
    raise OpsError(f"there is no worker or pod {origin!r}: there are {', '.join(there) or 'none now'}")
