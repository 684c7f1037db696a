"""`berth workers`: the workers of a stack's endpoint on RunPod, and how far its newest release is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops import console
from ops.endpoints import berth
from ops.errors import InterruptedCommandError, UsageError
from ops.options import AsJson, StackName
from ops.stacks import open_stack

# Two requests each time: of the 60 a minute that RunPod answers a third.
_WATCH_SECONDS = 6.0
_SHOWN_RELEASES = 3


def workers(
    stack: StackName,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
) -> None:
    """Show the workers on RunPod, and what to do about those that are not at work."""
    # An HTTP client takes a quarter of the start of every command, and few ask.
    from ops.runpod import Runpod  # noqa: PLC0415

    if watch and as_json:
        raise UsageError("--watch is for people and --json for programs: give one of them")
    opened = open_stack(stack)
    runpod = Runpod.of(opened)
    endpoint = runpod.endpoint()
    state = {
        "stack": stack,
        "endpoint": runpod.id,
        "type": endpoint.get("type"),
        "limits": {"min": endpoint["workers"].get("min"), "max": endpoint["workers"].get("max")},
        "max_in_stack_file": opened.settings.runpod.workers_max if opened.settings.runpod else None,
        "spent_today_usd": runpod.spent_today_usd(),
    }

    def look() -> dict[str, Any]:
        return state | runpod.workers() | runpod.releases()

    if as_json:
        console.print_json(look())
    elif watch:
        _watch(look)
    else:
        console.out.print(_shown(look()))


def _watch(look: Callable[[], dict[str, Any]]) -> None:
    """Show it until Ctrl-C: in place on a terminal, elsewhere again after each change."""
    before: dict[str, Any] | None = None
    on_terminal = console.out.is_terminal
    live = Live(console=console.out, auto_refresh=False)
    try:
        with live if on_terminal else nullcontext():
            while True:
                state = look()
                if on_terminal:
                    live.update(_shown(state), refresh=True)
                elif _without_times(state) != before:
                    console.out.print(_shown(state))
                before = _without_times(state)
                time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        raise InterruptedCommandError("") from None


def _without_times(state: dict[str, Any]) -> dict[str, Any]:
    workers = [{**worker, "uptimeSeconds": None} for worker in state["workers"]]
    return {**state, "workers": workers}


def _shown(state: dict[str, Any]) -> Group:
    parts: list[Table | Text] = []
    if state["workers"]:
        parts += [_table(state["workers"]), Text()]
    parts += [_summary(state), _rollout(state)]
    parts += [_release(release) for release in state["releases"][:_SHOWN_RELEASES]]
    # Sentences are folded on a terminal, and stay whole in a file.
    whole = not console.out.is_terminal
    parts += [Text(note, "yellow", no_wrap=whole, overflow="fold") for note in notes(state)]
    return Group(*parts)


def _table(workers: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("worker", "status", "release", "GPU", "data center", "up for", "image"):
        table.add_column(heading, no_wrap=True)
    for worker in workers:
        version = worker.get("version")
        table.add_row(
            worker["id"],
            Text(worker["status"], _COLOURS.get(worker["status"], "")),
            f"{'?' if version is None else version}{' (stale)' if worker['isStale'] else ''}",
            f"{worker['gpuCount']} × {worker['gpuTypeId']}" if worker.get("gpuTypeId") else "",
            worker.get("dataCenterId") or "",
            _duration(worker.get("uptimeSeconds")),
            _short(worker.get("image") or ""),
        )
    return table


_COLOURS = {"RUNNING": "green", "IDLE": "green", "THROTTLED": "yellow", "UNHEALTHY": "bold red"}


def _summary(state: dict[str, Any]) -> Text:
    summary = state["summary"].items()
    counts = [f"{count} {status}" for status, count in summary if count and status != "total"]
    limits, spent = state["limits"], state["spent_today_usd"]
    text = f"{', '.join(counts) or 'no workers'}; {limits['min']} to {limits['max']} are allowed"
    return Text(text if spent is None else f"{text}; ${spent:.2f} spent today (UTC)")


def _rollout(state: dict[str, Any]) -> Text:
    rollout = state["rollout"]
    version = state["releases"][0]["version"] if state["releases"] else "?"
    if not rollout["workersTotal"]:
        return Text(f"release {version} is the newest; no worker runs any")
    on_latest = f"{rollout['workersOnLatest']} of {rollout['workersTotal']} workers"
    state_of_it = "is rolling out: it" if rollout["inProgress"] else "is rolled out: it"
    return Text(f"release {version} {state_of_it} runs on {on_latest} ({rollout['percentOnLatest']} %)")


def _release(release: dict[str, Any]) -> Text:
    changed = f"changed: {', '.join(release['changed'])}" if release["changed"] else "the first"
    line = f"  {release['version']}  {release['createdAt']}  {release['workerCount']} workers  {changed}"
    return Text(line, "dim")


def notes(state: dict[str, Any]) -> list[str]:
    """Return what the states of an endpoint's workers mean, where they are not at work, and what to do."""
    stack = f"--stack {state['stack']}"
    file = f"stacks/Pulumi.{state['stack']}.yaml"
    found = []
    most, wanted = state["limits"]["max"], state["max_in_stack_file"]
    if wanted not in (None, most):
        why = " RunPod lowers it after 3 and 7 days without a request." if most < wanted else ""
        found.append(
            f"workers.max is {most} on RunPod and {wanted} in {file}.{why}"
            f" `{berth()} refresh {stack}`, then `{berth()} up {stack}` set it again"
        )
    if not state["workers"] and most:
        found.append("no workers: the next request starts one")
    statuses = {worker["status"]: worker["id"] for worker in state["workers"]}
    if "INITIALIZING" in statuses:
        found.append("INITIALIZING: it pulls the image or loads the model; the first time takes minutes")
    if "THROTTLED" in statuses:
        found.append(
            "THROTTLED: RunPod has none of these GPUs free there now. It goes on trying; more pools in"
            f" berth:runpod.gpu_pools or data centers in berth:runpod.data_center_ids ({file}) help"
        )
    if "UNHEALTHY" in statuses:
        found.append(
            "UNHEALTHY: it does not start, or has stopped to answer."
            f" `{berth()} logs {stack} --worker {statuses['UNHEALTHY']}` says why"
        )
    if any(worker["isStale"] for worker in state["workers"]):
        found.append("stale: of an older release; it is replaced once it has nothing to do")
    return found


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _short(image: str) -> str:
    """Return an image's digest, cut to what tells it from others, or its last part with the tag."""
    name, _, digest = image.partition("@")
    return digest[: len("sha256:") + 12] if digest else name.rpartition("/")[2]
