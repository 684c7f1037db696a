"""Starts the process that sends a load, follows it, and brings home what came of it, whatever ends it."""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError, UsageError
from ops.stacks import PROJECT_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ops.load.order import Order

_FILES_BESIDE_USERS = 200
# To start, to ask each endpoint once, to cancel what is left of jobs, to write it all down.
_BESIDE_SECONDS = 120.0


@dataclass
class Sent:
    """What came of a load.

    Args:
        seconds: from the first request to the last answer.
        rows: for each endpoint and kind of request.
        samples: every two seconds.
        broken_off: whether it was interrupted.
        errors: what went wrong in the sending program itself.
    """

    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    broken_off: bool = False
    errors: list[str] = field(default_factory=list)


def raise_file_limit(users: int) -> None:
    """Let this process and its children have as many open files as the users have connections.

    Args:
        users: how many there are at the most.

    Raises:
        UsageError: the system allows fewer.
    """
    needed = users + _FILES_BESIDE_USERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"--users {users} needs {needed} open files, a connection each, and this shell allows {hard}:"
            f" raise the hard limit (as root: ulimit -Hn {needed}), or ask for"
            f" {max(hard - _FILES_BESIDE_USERS, 0)} users at the most"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def send(
    order: Order,
    *,
    began: Callable[[str | None], None],
    sampled: Callable[[dict[str, Any]], None],
) -> Sent:
    """Send a load and return what came of it; Ctrl-C breaks it off, and what there is so far is returned.

    Args:
        order: what it is to be.
        began: called once, when the users begin, with the URL of Locust's page if there is one.
        sampled: takes each sample as it comes.

    Raises:
        OpsError: an endpoint did not answer the first request, or the sending program failed.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.load.sender"],
            cwd=PROJECT_FOLDER,
            env={name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process alone, which closes the other's input
        )
        limit = order.seconds + order.limit_seconds * (1 + 2 * len(order.targets)) + _BESIDE_SECONDS
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        try:
            sent = _follow(process, order, began, sampled)
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
        if sent is None:
            errors.seek(0)
            said = errors.read().strip()[-2000:]
            raise OpsError(f"what sends the load ended before its time: {said or 'it says nothing'}")
    return sent


def _follow(
    process: subprocess.Popen[str],
    order: Order,
    began: Callable[[str | None], None],
    sampled: Callable[[dict[str, Any]], None],
) -> Sent | None:
    sent = Sent()
    begun = interrupted = False
    events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    with process:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process has no pipes")
        process.stdin.write(json.dumps(order.document()) + "\n")
        process.stdin.flush()
        # Ctrl-C in the middle of a line would lose what was read of it: another thread reads.
        threading.Thread(target=_read, args=(process.stdout, events), daemon=True).start()
        while True:
            try:
                event = events.get()
                if event is None:
                    return None
                match event.pop("event"):
                    case "refused":
                        raise OpsError(
                            f"{event['platform']} does not answer the first request, and no load was sent:"
                            f" {event['problem']}"
                        )
                    case "begun":
                        begun = True
                        began(event["web"])
                    case "sample":
                        sent.samples.append(event)
                        sampled(event)
                    case "ended":
                        return Sent(**event, samples=sent.samples)
            except KeyboardInterrupt:
                if interrupted or not begun:
                    raise
                interrupted = True
                process.stdin.close()


def _read(stream: Iterable[str], events: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in stream:
        events.put(json.loads(line))
    events.put(None)
