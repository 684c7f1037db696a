"""Measures what a queue worker adds to bare `vllm serve`: ours, and the published one, in turn in one run.

    python -m benchmarks.queue_door --reference FOLDER PYTHON --output benchmarks/results/queue_door.json

The engine is a stub (benchmarks/stub_engine.py), so that nothing but the worker is measured. FOLDER is a
checkout of github.com/runpod-workers/worker-vllm, PYTHON one with its requirements. Every round asks, at each
level of concurrency, the stub itself, then each worker by way of a lean job platform; the rounds alternate,
so that a noisy machine is noisy for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.job_platform import Platform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_ROOT = Path(__file__).resolve().parent.parent
_LEVELS = {1: 24, 16: 160, 64: 512, 256: 1024}
_MOST = max(_LEVELS)
_START_SECONDS = 60.0
_STAMP = re.compile(r'"content": ?"(\d{9,})"')
_FIGURES = ("requests_per_second", "request_p50_ms", "request_p99_ms", "token_p50_ms", "token_p99_ms")
_MESSAGES = [{"role": "user", "content": "Say hello to the harbour."}]


@dataclass
class Sample:
    """What one way of asking gave at one level of concurrency, over all rounds."""

    seconds: list[float] = field(default_factory=list)
    token_delays: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Return the requests a second, and percentiles in milliseconds."""
        found = {"requests_per_second": round(len(self.seconds) / self.wall_seconds, 1)}
        for name, values in (("request", self.seconds), ("token", self.token_delays)):
            if values:
                cuts = statistics.quantiles(values, n=100, method="inclusive")
                found |= {
                    f"{name}_p50_ms": round(cuts[49] * 1e3, 2),
                    f"{name}_p99_ms": round(cuts[98] * 1e3, 2),
                }
        return found


@dataclass(frozen=True)
class Answer:
    """One answer: how long it took, and how late each of its tokens came, in seconds."""

    seconds: float
    token_delays: list[float]


class Ask(Protocol):
    """One way of asking for an answer."""

    def __call__(self, *, stream: bool) -> Awaitable[Answer]:
        """Ask once."""


def _body(*, stream: bool) -> dict[str, Any]:
    return {"model": "stub", "messages": _MESSAGES, "stream": stream}


def _delays(arrived: int, text: str) -> list[float]:
    return [(arrived - int(stamp)) / 1e9 for stamp in _STAMP.findall(text)]


async def _ask_engine(session: aiohttp.ClientSession, url: str, *, stream: bool) -> Answer:
    begun = time.monotonic()
    delays: list[float] = []
    async with session.post(f"{url}/v1/chat/completions", json=_body(stream=stream)) as response:
        response.raise_for_status()
        if stream:
            async for chunk in response.content.iter_any():
                delays += _delays(time.monotonic_ns(), chunk.decode())
        else:
            await response.read()
    return Answer(time.monotonic() - begun, delays)


async def _ask_worker(jobs: Platform, *, stream: bool) -> Answer:
    begun = time.monotonic()
    job = await jobs.run({"openai_route": "/v1/chat/completions", "openai_input": _body(stream=stream)})
    seconds = time.monotonic() - begun
    if "output" not in job.result:
        raise RuntimeError(f"the worker answered {job.result}")
    return Answer(seconds, [delay for arrived, text in job.streamed for delay in _delays(arrived, text)])


async def _load(ask: Callable[[], Awaitable[Answer]], concurrency: int, count: int, sample: Sample) -> None:
    """Ask `count` times, so many at once, and add what was seen to the sample."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            answer = await ask()
            sample.seconds.append(answer.seconds)
            sample.token_delays.extend(answer.token_delays)

    begun = time.monotonic()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    sample.wall_seconds += time.monotonic() - begun


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str], folder: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _worker_environment(base: str, tools: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=stub",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=stub",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=stub",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=stub",
        "RUNPOD_POD_ID": "bench",
        "RUNPOD_AI_API_KEY": "bench",
        "RUNPOD_ENDPOINT_ID": "bench",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        # Ours, then theirs.
        "BERTH_DOOR": "queue",
        "BERTH_TASK": "generate",
        "BERTH_HOST": "127.0.0.1",
        "BERTH_DOOR_PYTHON": sys.executable,
        "BERTH_TERMINATION_LOG": os.devnull,
        "PORT": str(port),
        "VLLM_PORT": str(port),
        "MODEL_NAME": "stub",
        "MAX_CONCURRENCY": str(_MOST),
    }


def _tools(folder: Path) -> Path:
    """Return a folder whose `vllm serve` is the stub."""
    command = folder / "vllm"
    stub = Path(__file__).with_name("stub_engine.py")
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stub}" "$@"\n')
    command.chmod(0o755)
    return folder


async def _started(
    stack: contextlib.AsyncExitStack, folder: Path, reference: list[Path] | None
) -> dict[str, Ask]:
    """Start the stub and a worker of each kind; return how each of them is asked."""
    tools = _tools(folder)
    port = _free_port()
    serve = [str(tools / "vllm"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    stack.enter_context(_process(serve, {}, folder, folder / "engine.log"))
    ours = [sys.executable, str(_ROOT / "image" / "entrypoint.py"), "stub", "--max-num-seqs", str(_MOST)]
    workers = {"berth": (ours, folder)}
    if reference is not None:
        checkout, python = reference
        workers["worker-vllm"] = ([str(python.absolute()), "main.py"], checkout.resolve() / "src")
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    ways: dict[str, Ask] = {"vllm serve": partial(_ask_engine, session, f"http://127.0.0.1:{port}")}
    for name, (command, home) in workers.items():
        jobs = Platform()
        environment = _worker_environment(await jobs.start(), tools, _free_port())
        stack.push_async_callback(jobs.close)
        log = folder / f"{name}.log"
        stack.enter_context(_process(command, environment, home, log))
        try:
            await asyncio.wait_for(jobs.polled.wait(), _START_SECONDS)
        except TimeoutError:
            sys.exit(f"{name} asks for no job; its log ends:\n{log.read_text()[-3000:]}")
        ways[name] = partial(_ask_worker, jobs)
    return ways


async def _measure(reference: list[Path] | None, rounds: int, levels: dict[int, int]) -> list[dict[str, Any]]:
    """Ask each way in turn, over and over; return a row for each way, kind of answer and level."""
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queue-door-")))
        ways = await _started(stack, folder, reference)
        for stream, (level, count) in itertools.product((False, True), levels.items()):
            samples = {name: Sample() for name in ways}
            for ask in ways.values():
                await _load(partial(ask, stream=stream), level, 2 * level, Sample())  # connections are made
            for _ in range(rounds):
                for name, ask in ways.items():
                    await _load(partial(ask, stream=stream), level, count, samples[name])
            answer = "streamed" if stream else "whole"
            print(f"{answer}, {level} at once: measured", file=sys.stderr)
            rows += [
                {"asked": name, "answer": answer, "at_once": level, **sample.figures()}
                for name, sample in samples.items()
            ]
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "asked", "answer", "at once", "requests/s", "p50 ms", "p99 ms", "token p50 ms", "token p99 ms"
    )
    for row in rows:
        figures = [row.get(name) for name in _FIGURES]
        table.add_row(
            *(str(row[name]) for name in ("asked", "answer", "at_once")),
            *("" if figure is None else f"{figure:.1f}" for figure in figures),
        )
    Console(width=110).print(table)


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reference",
        type=Path,
        nargs=2,
        metavar=("FOLDER", "PYTHON"),
        help="a checkout of runpod-workers/worker-vllm, and a Python with its requirements and our runpod",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--levels", type=int, nargs="+", choices=tuple(_LEVELS), default=list(_LEVELS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    levels = {level: _LEVELS[level] for level in options.levels}
    rows = asyncio.run(_measure(options.reference, options.rounds, levels))
    _show(rows)
    if options.output:
        kept = {
            "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            # Without the folders of the machine that it ran on.
            "command": "python -m benchmarks.queue_door --reference FOLDER PYTHON --output FILE",
            "rounds": options.rounds,
            "requests_per_round": levels,
            "rows": rows,
        }
        options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
