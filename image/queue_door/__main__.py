"""Starts the queue door: waits until vLLM serves, then runs RunPod's worker.

BERTH_ENGINE_URL     where vLLM is
BERTH_JOBS_AT_ONCE   how many jobs may run at the same time
BERTH_TASK           what the model is for
The first line on standard input says, as a JSON string, why vLLM has ended.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import sys
from urllib.parse import urlsplit

# The SDK's own default writes every prompt and every answer to the log.
os.environ.setdefault("RUNPOD_LOG_LEVEL", os.environ.get("RUNPOD_DEBUG_LEVEL", "WARN"))

import runpod  # type: ignore[import-untyped]  # reads its variables when it is imported
import uvloop
from health import serves
from runpod.serverless.modules import rp_scale  # type: ignore[import-untyped]

from queue_door.engine import Engine
from queue_door.jobs import Jobs
from queue_door.loop import Loop

_PAUSE_SECONDS = 0.25
_OTHER_FILES = 256


def wait_until_it_serves(url: str) -> None:
    """Wait for vLLM's health; how long it may take is the entrypoint's and the platform's business.

    Raises:
        SystemExit: vLLM, or the entrypoint, has ended first.
    """
    while not serves(urlsplit(url).netloc):
        said, _, _ = select.select([sys.stdin], [], [], _PAUSE_SECONDS)
        if said:
            sys.exit()


def allow_connections(jobs_at_once: int) -> None:
    """Raise the limit of open files where it is too low: a job has a connection to each side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OTHER_FILES + 2 * jobs_at_once
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def main() -> None:
    """Do jobs until the worker is told to stop, or vLLM has ended."""
    url = os.environ["BERTH_ENGINE_URL"]
    jobs_at_once = int(os.environ["BERTH_JOBS_AT_ONCE"])
    engine = Engine(url)
    jobs = Jobs.from_environment(engine)
    allow_connections(jobs_at_once)
    wait_until_it_serves(url)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    rp_scale.JobScaler = Loop
    # What the packages have made stays: looking through it again and again would hold up jobs.
    gc.collect()
    gc.freeze()
    runpod.serverless.start(
        {
            "handler": jobs.pieces,
            "choose": lambda job: jobs.pieces if jobs.has_pieces(job) else jobs.whole,
            "engine": engine,
            "concurrency_modifier": lambda _: jobs_at_once,
            "return_aggregate_stream": True,
        }
    )


if __name__ == "__main__":
    main()
