"""`python -m sandbox.runpod` as a process: its ready line, its end, and what it says when it cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.blocks import free_block
from tests.runpod.conftest import KEY, body

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]


def _start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.runpod", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_says_where_it_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    block = free_block()
    process = _start(
        "--port", "4567", "--block", str(block), "--dir", str(tmp_path), env={"RUNPOD_API_KEY": KEY}
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready == {"endpoint": f"http://127.{block}.0.2:4567/v2"}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=ready["endpoint"], headers=headers, trust_env=False) as api:
        assert api.get("/serverless").json() == {"endpoints": []}
        refused = api.post("/serverless", json=body())
        assert refused.status_code == 422
        assert "could not be resolved" in refused.json()["detail"]
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=15)
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = _start("--port", str(port), "--key", KEY)
        output, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert output == ""
    assert errors == f"sandbox.runpod: 127.0.0.1:{port} cannot be listened on: Address already in use\n"


def test_no_key_is_refused() -> None:
    process = _start("--port", "0", env={"RUNPOD_API_KEY": ""})
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 2
    assert "RUNPOD_API_KEY" in errors


def test_a_speed_that_stops_time_is_refused() -> None:
    process = _start("--port", "0", "--key", KEY, "--speed", "0")
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 2
    assert "--speed 0 must be more than 0" in errors
