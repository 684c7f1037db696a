"""`berth load`: many users at once on a stack's endpoints."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ops import console, records
from ops.endpoints import endpoints_of
from ops.errors import InterruptedCommandError, OpsError, SilentFailureError, UsageError
from ops.options import AsJson, StackName, Yes
from ops.progress import Progress
from ops.stacks import LOCAL, open_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.endpoints import Endpoint
    from ops.load.order import Order
    from ops.stacks import Stack

_READY_SECONDS = 900.0
_WEB_PORT = 8089  # Locust's own


def load(
    stack: StackName,
    platform: Annotated[
        Literal["eks", "runpod"] | None,
        typer.Option(help="Whose endpoint; else all of the stack's, side by side."),
    ] = None,
    users: Annotated[int, typer.Option(min=1, max=1000, help="How many users there are at the most.")] = 10,
    ramp: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long until all of them are there.")
    ] = 10,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long requests are begun, the ramp included.")
    ] = 60,
    mix: Annotated[
        str,
        typer.Option(
            metavar="short|long|mixed|FILE",
            help="What a model that generates is asked: made prompts, or a file of your own, with JSON lines"
            " of prompt or messages, and max_tokens.",
        ),
    ] = "mixed",
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long one request may take.")
    ] = 120,
    max_failures_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Of an endpoint's requests, how many may fail.")
    ] = 0,
    max_p95_ms: Annotated[
        float | None,
        typer.Option(min=1, help="The latency that 95% of each kind of request must not exceed."),
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Open Locust's page on the loopback address.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask the stack's endpoints as many users at once would, for a time, and measure what they do.

    Users come one after the other, and ask again as soon as they are answered. At the end, requests under
    way are waited for. Ctrl-C ends it earlier, with what there is so far. Kept under results/.

    Exit status 0 only if no more requests failed than may, and the latency's bound holds.
    """
    # HTTP clients and Kubernetes' take most of a second, and few commands load anything.
    from ops import engine_metrics  # noqa: PLC0415
    from ops.load import drive, record, show  # noqa: PLC0415
    from ops.load.cost import costs  # noqa: PLC0415

    if ramp > seconds:
        raise UsageError(f"--ramp is {ramp:g} s, and --seconds {seconds:g} s: the ramp is a part of it")
    opened = open_stack(stack)
    outputs = opened.outputs(show_secrets=True)
    endpoints = endpoints_of(opened, outputs, platform)
    order = _order(
        opened, outputs, endpoints, users=users, ramp=ramp, seconds=seconds, mix=mix, timeout=timeout, web=web
    )
    drive.raise_file_limit(users)
    priced = costs(opened.settings, [endpoint.platform for endpoint in endpoints])
    target = console.err if as_json else console.out
    quiet = as_json and not target.is_terminal
    if not quiet:
        target.print("\n".join(show.announcement(stack, order, endpoints, priced)), markup=False)
    if stack != LOCAL and not yes:
        console.require_consent(f"Send this load to the stack {stack}?", command="load")

    server = opened.settings.server
    sources = engine_metrics.sources_of(
        endpoints,
        outputs.get("kubeconfig"),
        opened.environment(),
        *([server.port] if server else []),
    )
    with Progress(target, quiet=as_json) as progress, engine_metrics.Sampler(sources) as metrics:
        _wait_until_ready(opened, outputs, endpoints, progress)

        def began(url: str | None) -> None:
            metrics.start()
            if url is not None and not quiet:
                target.print(f"Locust's page, for as long as the load goes on: {url}", markup=False)

        def sampled(sample: dict[str, Any]) -> None:
            for endpoint in endpoints:
                progress.report(endpoint.platform, show.progress(sample, endpoint.platform))

        sent = drive.send(order, began=began, sampled=sampled)
    bounds = record.Bounds(max_failures_percent, max_p95_ms)
    document = record.document(stack, order, endpoints, priced, bounds, sent, metrics)
    path = records.keep(stack, "load", document)
    if as_json:
        console.print_json(document)
    else:
        show.results(document)
        console.say(f"Kept in {path}")
    if sent.broken_off:
        raise InterruptedCommandError(
            f"interrupted after {sent.seconds:.0f} s: the results so far are kept in {path}"
        )
    for problem in document["problems"]:
        console.error(problem)
    if document["problems"]:
        raise SilentFailureError


def _order(
    stack: Stack,
    outputs: dict[str, Any],
    endpoints: Sequence[Endpoint],
    *,
    users: int,
    ramp: float,
    seconds: float,
    mix: str,
    timeout: float,
    web: bool,
) -> Order:
    from ops.load.mix import Mix  # noqa: PLC0415
    from ops.load.order import Order, Target  # noqa: PLC0415

    task = outputs.get("task") or stack.settings.model.task
    generates = task == "generate"
    if not generates and mix != "mixed":
        raise UsageError(f"--mix is for models that generate, and the stack {stack.name} has the task {task}")
    return Order(
        targets=tuple(Target(item.platform, item.url, item.key, item.jobs) for item in endpoints),
        # A stack that was brought up by an older version says its model alone.
        model=(outputs.get("models") or [outputs["model"]])[0],
        task=task,
        mix=Mix.of(mix, stack.settings.model.max_model_len) if generates else None,
        users=users,
        ramp_seconds=ramp,
        seconds=seconds,
        limit_seconds=timeout,
        web_port=_free_port() if web else None,
    )


def _free_port() -> int:
    """Return Locust's own port, or another where that is in use."""
    for port in (_WEB_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as listening:
                found: int = listening.getsockname()[1]
                return found
        except OSError:
            continue
    raise OpsError("no port of 127.0.0.1 is free for Locust's page")


def _wait_until_ready(
    stack: Stack, outputs: dict[str, Any], endpoints: Sequence[Endpoint], progress: Progress
) -> None:
    """Wait for workers that start from zero: a load is to measure answers, and not their start.

    Raises:
        OpsError: an endpoint does not get ready.
    """
    from ops import smoke  # noqa: PLC0415
    from ops.reasons import Looker  # noqa: PLC0415

    looker = Looker(stack.runpod_api(), stack.environment(), outputs.get("kubeconfig"))
    for endpoint in endpoints:
        problem = smoke.wait(
            smoke.Report(endpoint), limit_seconds=_READY_SECONDS, look=looker, say=progress.report
        )
        if problem is not None:
            raise OpsError(f"{endpoint.platform}: {problem}")
