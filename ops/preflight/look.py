"""Puts the questions of a stack together, and asks them side by side, each with a limit."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from infra.runpod.connection import KEY_VARIABLE
from ops.plan.assembly import recorded_graph
from ops.preflight import identity, machines, model, network, quotas, registry, runpod, tools
from ops.preflight.aws import Account
from ops.preflight.findings import Check, Result, unknown
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from ops.preflight.findings import Finding
    from ops.progress import Progress
    from ops.stacks import Stack

LIMIT_SECONDS = 30.0
"""How long one question may take."""


def look(stack: Stack, progress: Progress, *, limit_seconds: float = LIMIT_SECONDS) -> list[Result]:
    """Return the answer to everything that `up` of a stack depends on and that can be asked for.

    Args:
        stack: the stack.
        progress: shows what is asked.
        limit_seconds: how long one question may take; without an answer by then, it is not known.

    Raises:
        OpsError: the stack's graph cannot be had: its file does not fit its own program.
    """
    return _asked(_checks(stack), progress, limit_seconds)


def _checks(stack: Stack) -> list[Check]:
    settings = stack.settings
    found = [*model.checks(stack), *tools.checks(stack)]
    if not stack.awake():
        asleep = unknown(
            "its clouds do not run: `up` starts them, empty and with quotas of their own",
            f"./berth up --stack {LOCAL}",
            askable=False,
        )
        return [*found, Check("sandbox", "AWS and RunPod", lambda: asleep)]
    # The program is run by threads of nobody else, for it changes the environment while it runs.
    graph = recorded_graph(settings)
    environment = None if settings.sandbox is None else stack.environment()
    account = Account(environment, settings.aws.region)
    found += [*identity.checks(settings, account, graph), *registry.checks(settings, account)]
    if "eks" in settings.targets:
        found += quotas.checks(settings, account, graph)
        found += machines.checks(settings, account)
        found += network.checks(settings, account)
    if "runpod" in settings.targets:
        found += runpod.checks(settings, stack.runpod_api(), stack.environment().get(KEY_VARIABLE, ""))
    return found


def _asked(checks: list[Check], progress: Progress, limit_seconds: float) -> list[Result]:
    """Ask in threads that hold up no end of the process: the look-up of a host cannot be broken off."""
    answers: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()

    def ask(number: int, check: Check) -> None:
        answers.put((number, _answer(check)))

    for number, check in enumerate(checks):
        progress.report(_part(check), "asking")
        threading.Thread(target=ask, args=(number, check), daemon=True).start()
    found: dict[int, Finding] = {}
    deadline = time.monotonic() + limit_seconds
    while len(found) < len(checks):
        try:
            number, finding = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[number] = finding
        progress.report(_part(checks[number]), finding.answer)
    late = unknown(
        f"no answer in {limit_seconds:.0f} s",
        "run the preflight again, and look at the network and its proxy",
    )
    return [Result(check.subject, check.name, found.get(number, late)) for number, check in enumerate(checks)]


def _answer(check: Check) -> Finding:
    try:
        return check.ask()
    except Exception as error:  # noqa: BLE001  # one answer that nobody foresaw takes no other away
        # By its name only: words that nobody has seen may show what was sent.
        return unknown(f"an answer that is not understood: {type(error).__name__}", "report it")


def _part(check: Check) -> str:
    return f"{check.subject}: {check.name}"
