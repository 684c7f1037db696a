"""Python programs of a container ask their node before they connect, and do not without its answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox import vllm
from sandbox.kubernetes.node.egress import EgressServer

if TYPE_CHECKING:
    from collections.abc import Iterator

POD, INSIDE, ELSEWHERE = "127.252.2.5", "127.252.130.5", "127.252.9.9"
CONNECT = """
import socket, sys
def look(address, port):
    with socket.create_connection((address, int(port)), 10) as connection:
        return connection.getsockname()[0]
"""
ASYNCIO = """
import asyncio, sys
async def open_one(address, port):
    _, writer = await asyncio.open_connection(address, int(port))
    name = writer.get_extra_info("sockname")[0]
    writer.close()
    return name
def look(address, port):
    return asyncio.run(open_one(address, port))
"""
UVLOOP = "import uvloop\nuvloop.install()\n" + ASYNCIO
DATAGRAM = """
import socket, sys
def look(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (address, int(port)))
        return "sent"
"""
REPORT = """
for address in sys.argv[2:]:
    try:
        print(look(address, sys.argv[1]))
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is listened on at every loopback address."""
    with socket.create_server(("", 0)) as listener:
        yield listener.getsockname()[1]


def run(server: EgressServer, program: str, port: int, *addresses: str, **changes: str) -> list[str]:
    python = vllm.python() if program is UVLOOP else Path(sys.executable)
    environment = {**os.environ, "BERTH_HOST": INSIDE, **server.environment("a-pod", POD, os.environ)}
    argv = [str(python), "-c", program + REPORT, str(port), *addresses]
    result = subprocess.run(
        argv, env={**environment, **changes}, capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.split()


@pytest.mark.parametrize("program", [CONNECT, ASYNCIO, UVLOOP], ids=["socket", "asyncio", "uvloop"])
def test_connections_are_judged_and_come_from_the_pod(program: str, port: int) -> None:
    if program is UVLOOP and not (vllm.directory() / ".berth-finished").exists():
        pytest.skip("uvloop comes with vLLM's environment, which is not installed here")
    asked: list[tuple[str, str, int, str]] = []

    def judge(*question: str | int) -> bool:
        asked.append(question)  # type: ignore[arg-type]
        return question[1] == ELSEWHERE

    with EgressServer(f"judge-{os.getpid()}-{port}", judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            seen = run(server, program, port, ELSEWHERE, "127.252.9.8", POD, INSIDE, "127.0.0.1")
            assert seen[:2] == [POD, "TimeoutError"]
            # Within the pod nobody is asked.
            assert "TimeoutError" not in seen[2:]
            assert asked == [("a-pod", ELSEWHERE, port, "TCP"), ("a-pod", "127.252.9.8", port, "TCP")]
            assert run(server, program, port, ELSEWHERE, BERTH_EGRESS="nobody") == ["TimeoutError"]
        finally:
            server.shutdown()


def test_datagrams_are_judged(port: int) -> None:
    with EgressServer(f"datagrams-{os.getpid()}-{port}", lambda *question: question[3] == "TCP") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert run(server, DATAGRAM, port, ELSEWHERE) == ["TimeoutError"]
        finally:
            server.shutdown()
