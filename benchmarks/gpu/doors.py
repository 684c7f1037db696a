"""Measures the image's http door beside bare `vllm serve`: two servers on one GPU, asked in turn in one run.

    python -m benchmarks.gpu.doors --output benchmarks/results/gpu/doors.json -- MODEL ARGUMENTS

Both servers hold the model at once, each with less than half of the GPU's memory, and only one is asked at a
time; the rounds alternate. Prompts are random token ids, the same for both. Clients are spread over
processes, so that they keep up with 256 streams. The second work is the one that benchmarks.gpu.generate
gives to Hugging Face's `generate`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import random
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.cold_start import Server, caches, machine, scrub, ways

# Tokens of a prompt, then how many requests a round has for each number at once.
_WORK = {512: {1: 6, 16: 96, 64: 256, 256: 768}, 64: {25: 75, 256: 512}}
ANSWER_TOKENS = 128
_CLIENTS_PER_PROCESS = 64


async def _ask(session: aiohttp.ClientSession, url: str, prompt: list[int], tokens: int) -> list[float]:
    """Ask for an answer of so many tokens; return when it was asked for and when each piece of it came.

    A piece is a token, or several where the server is busy.
    """
    body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    begun = time.monotonic()
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with session.post(f"{url}/v1/completions", json=streamed) as response:
        response.raise_for_status()
        lines = [(time.monotonic(), line) async for line in response.content if line.startswith(b"data: {")]
    *pieces, (_, usage) = lines
    counted = json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"]
    if counted != tokens:
        raise ValueError(f"an answer of {counted} tokens, not {tokens}")
    return [begun, *(at for at, _ in pieces)]


async def _clients(url: str, asked: list[list[int]], tokens: int, at_once: int) -> list[list[float]]:
    left = iter(asked)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def client() -> list[list[float]]:
            return [await _ask(session, url, prompt, tokens) for prompt in left]

        return list(itertools.chain(*await asyncio.gather(*(client() for _ in range(at_once)))))


def _run_clients(url: str, prompts: list[list[int]], tokens: int, at_once: int) -> list[list[float]]:
    return asyncio.run(_clients(url, prompts, tokens, at_once))


def _load(url: str, asked: list[list[int]], tokens: int, at_once: int) -> list[list[float]]:
    """Ask all prompts, so many at once, from as many processes as that takes."""
    processes = max(1, at_once // _CLIENTS_PER_PROCESS)
    parts = [(url, asked[part::processes], tokens, at_once // processes) for part in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return list(itertools.chain(*pool.starmap(_run_clients, parts, chunksize=1)))


def prompts(count: int, tokens: int, seed: int) -> list[list[int]]:
    """Return random prompts of so many tokens."""
    source = random.Random(seed)  # noqa: S311  # not for secrets
    return [[source.randrange(3, 500) for _ in range(tokens)] for _ in range(count)]


def _figures(rounds: list[list[list[float]]]) -> dict[str, float]:
    """Return throughput and percentiles over some rounds."""
    answers = list(itertools.chain(*rounds))
    wall = sum(max(times[-1] for times in one) - min(times[0] for times in one) for one in rounds)
    rate = len(answers) / wall
    pieces = statistics.mean(len(times) - 1 for times in answers)
    found = {
        "requests_per_second": round(rate, 3),
        "tokens_per_second": round(rate * ANSWER_TOKENS, 1),
        "tokens_per_piece": round(ANSWER_TOKENS / pieces, 2),
    }
    first = [times[1] - times[0] for times in answers]
    between = [late - early for times in answers for early, late in itertools.pairwise(times[1:])]
    for name, values in (("ttft", first), ("itl", between)):
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        found |= {f"{name}_p50_ms": round(cuts[49] * 1e3, 2), f"{name}_p99_ms": round(cuts[98] * 1e3, 2)}
    return found


def _measure(servers: dict[str, Server], rounds: int, at_once: list[int], rows: list[dict[str, Any]]) -> None:
    """Ask the servers in turn, and add a row for each of them and each level of each work."""
    for prompt_tokens, levels in _WORK.items():
        for level, count in levels.items():
            if level not in at_once:
                continue
            seen: dict[str, list[list[list[float]]]] = {name: [] for name in servers}
            for number in range(-1, rounds):  # the first for connections and kernels
                asked = prompts(level if number < 0 else count, prompt_tokens, number)
                for name in sorted(servers, reverse=bool(number % 2)):
                    answered = _load(servers[name].url, asked, ANSWER_TOKENS, level)
                    if number >= 0:
                        seen[name].append(answered)
            for name in servers:
                row = {
                    "asked": name,
                    "prompt_tokens": prompt_tokens,
                    "at_once": level,
                    **_figures(seen[name]),
                }
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
                rows.append(row)


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs=2, choices=tuple(ways("")), default=["vllm serve", "image"])
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 16, 25, 64, 256])
    parser.add_argument("--caches", type=Path, help="caches of compiled code that another run has kept")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("arguments", nargs="+", help="a model and arguments, as for `vllm serve`")
    options = parser.parse_args()
    logs = options.output.with_suffix("")
    logs.mkdir(parents=True, exist_ok=True)
    about = machine(sys.executable)
    servers: dict[str, Server] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="doors-") as temporary:
        folder = options.caches or Path(temporary)
        try:
            for name in options.ways:
                environment = {**caches(folder), "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
                log = logs / f"{name.replace(', ', '-').replace(' ', '-')}.log"
                servers[name] = Server(ways(sys.executable)[name], options.arguments, environment, log)
                # One after the other: each takes stock of the GPU's memory while it starts.
                servers[name].first_token(600)
            _measure(servers, options.rounds, options.at_once, rows)
        finally:
            for server in servers.values():
                server.stop()
            scrub(logs, options.arguments[0], folder)
            asked = f"--ways {shlex.join(options.ways)} --at-once {' '.join(map(str, options.at_once))}"
            command = (
                f"python -m benchmarks.gpu.doors --rounds {options.rounds} {asked} --output FILE -- MODEL "
            )
            kept = {**about, "command": command + " ".join(options.arguments[1:]), "rows": rows}
            options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
