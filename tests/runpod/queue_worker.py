"""Stands in for the image's queue door: the real SDK's worker, whose handler does what a job asks for.

Its arguments choose: `generator` yields, `aggregate` collects what is yielded, `silent` leaves the worker
protocol to the test, `refuse` does not start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ARGUMENTS = sys.argv[1:]
CONCURRENCY = int(os.environ.get("FAKE_CONCURRENCY", "1"))


async def handle(job: dict[str, Any]) -> Any:
    asked = job["input"]
    result: Any = None
    match asked["do"]:
        case "echo":
            result = asked
        case "environment":
            result = {name: value for name, value in os.environ.items() if name.startswith("RUNPOD_")}
        case "sleep":
            print(f"begun {job['id']}", flush=True)
            try:
                await asyncio.sleep(asked["seconds"])
            except asyncio.CancelledError:
                print(f"cancelled {job['id']}", flush=True)
                raise
            result = {"slept": asked["seconds"]}
        case "raise":
            raise ValueError(asked["text"])
        case "return":
            result = asked["value"]
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "progress":
            from runpod.serverless import progress_update  # type: ignore[import-untyped]

            progress_update(job, "half way")
            await asyncio.sleep(asked["seconds"])
            result = "all the way"
        case "large":
            result = "x" * asked["bytes"]
    return result


async def generate(job: dict[str, Any]) -> AsyncIterator[Any]:
    asked = job["input"].get("openai_input") or job["input"]
    for number, piece in enumerate(asked.get("pieces", [job["input"]])):
        if number:
            await asyncio.sleep(asked.get("every", 0.0))
        if piece == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece


def main() -> None:
    print(f"started with {ARGUMENTS}", flush=True)
    if "silent" in ARGUMENTS:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pause()  # a test speaks for this worker
    if "refuse" in ARGUMENTS:
        sys.exit(2)
    import runpod  # type: ignore[import-untyped]

    config: dict[str, Any] = {
        "handler": generate if "generator" in ARGUMENTS else handle,
        "return_aggregate_stream": "aggregate" in ARGUMENTS,
    }
    if CONCURRENCY > 1:
        config["concurrency_modifier"] = lambda _current: CONCURRENCY
    sys.argv = sys.argv[:1]  # the SDK reads arguments of its own
    runpod.serverless.start(config)


main()
