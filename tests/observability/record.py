"""Records what the sandbox's vLLM exports, with and without load: `python -m tests.observability.record`.

The server is cut to a size that a handful of requests fills: two at a time, a queue of eight, and a KV cache
that two long requests just fit into. So the queue and the rejections are real.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from pathlib import Path

import httpx

from sandbox import model, vllm
from sandbox.processes import Process, spawn
from tests.containers.conftest import free_port, random_address

RECORDINGS = Path(__file__).with_name("recordings")
NAME, REVISION = "Qwen/Qwen2.5-0.5B-Instruct", "7ae557604adf67be50417f59c2c2f167def9a775"
SERVED_NAME = "recorded"
INTERVAL_SECONDS = 15
"""Between two scrapes: that of the cluster's Prometheus."""

_ARGUMENTS = [
    *("--revision", REVISION, "--served-model-name", SERVED_NAME, "--dtype", "float32"),
    *("--max-model-len", "1024", "--max-num-seqs", "2", "--max-num-queued-reqs", "8"),
    *("--num-gpu-blocks-override", "10"),  # of 128 tokens, a CPU's
]
_LOAD_SCRAPES = 3
_CLIENTS = 24
_START_SECONDS = 900


async def _ask(http: httpx.AsyncClient, url: str, until: float) -> None:
    """Ask for long answers until the time is up; a full queue is answered at once, so wait a moment then."""
    while time.monotonic() < until:
        answer = await http.post(
            f"{url}/v1/completions",
            json={
                "model": SERVED_NAME,
                "prompt": f"{time.monotonic()} " + "word " * 200,
                "max_tokens": 600,
                "ignore_eos": True,
            },
        )
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await asyncio.sleep(1)


async def _until_idle(http: httpx.AsyncClient, url: str) -> None:
    while True:
        text = (await http.get(f"{url}/metrics")).text
        running = re.search(r"^vllm:num_requests_running{.*} (\S+)$", text, re.MULTILINE)
        if running is not None and float(running[1]) == 0:
            return
        await asyncio.sleep(0.5)


async def _record(url: str) -> list[tuple[str, str]]:
    """Return the scrapes, each with the name of its phase."""
    async with httpx.AsyncClient(
        trust_env=False, timeout=300, limits=httpx.Limits(max_connections=64)
    ) as http:
        scrapes = [("idle", (await http.get(f"{url}/metrics")).text)]
        until = time.monotonic() + _LOAD_SCRAPES * INTERVAL_SECONDS
        clients = [asyncio.create_task(_ask(http, url, until)) for _ in range(_CLIENTS)]
        for number in range(1, _LOAD_SCRAPES + 1):
            await asyncio.sleep(INTERVAL_SECONDS - 0.5)
            scrapes.append((f"load-{number}", (await http.get(f"{url}/metrics")).text))
        for client in clients:  # those that have no answer yet leave, and vLLM counts them as aborted
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await _until_idle(http, url)
        scrapes.append(("after", (await http.get(f"{url}/metrics")).text))
    return scrapes


def main() -> None:
    """Start vLLM, record it, stop it."""
    vllm.ensure(print)
    model.ensure(NAME, REVISION, print)
    address = random_address()
    port = free_port(address)
    url = f"http://{address}:{port}"
    with tempfile.TemporaryDirectory() as folder:
        server: Process = spawn(
            [
                str(vllm.commands() / "vllm"),
                "serve",
                NAME,
                *_ARGUMENTS,
                "--host",
                address,
                "--port",
                str(port),
            ],
            name="vllm",
            log_path=Path(folder) / "vllm.log",
            env={
                "PATH": f"{vllm.commands()}:/usr/bin:/bin",
                "HOME": folder,
                **vllm.environment(),
                **model.hub_environment(),
            },
        )
        try:
            with httpx.Client(trust_env=False, timeout=5) as http:

                def ready() -> bool:
                    try:
                        return http.get(f"{url}/health").status_code == httpx.codes.OK
                    except httpx.TransportError:
                        return False

                server.wait_until(ready, timeout_seconds=_START_SECONDS)
                version = http.get(f"{url}/version").json()["version"]
            scrapes = asyncio.run(_record(url))
        finally:
            server.stop()
    header = f"# vLLM {version} on a CPU, by `python -m tests.observability.record`"
    for number, (phase, text) in enumerate(scrapes):
        (RECORDINGS / f"{number}-{phase}.txt").write_text(f"{header}\n{text}")


if __name__ == "__main__":
    main()
