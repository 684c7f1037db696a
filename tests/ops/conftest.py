"""A copy of the project to type commands in, and a small OpenAI endpoint to ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import start_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runpod.conftest import Platform

ROOT = Path(__file__).resolve().parents[2]
_NOT_COPIED = (".git", ".venv", ".sandbox", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


def copy_project(destination: Path) -> Path:
    """Copy what a clone would have, without git."""
    shutil.copytree(ROOT, destination, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    shutil.rmtree(destination / "results", ignore_errors=True)  # benchmarks/ has a folder of this name too
    return destination


@dataclass(frozen=True)
class Project:
    """A copy of the project, its `berth` run by the Python of the tests."""

    root: Path

    def berth(
        self, *arguments: str, exit_status: int = 0, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where there is no terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.root,
            # No test asks the real hub, or the real RunPod.
            env={
                **os.environ,
                "PYTHONPATH": str(self.root),
                "HF_ENDPOINT": "http://127.0.0.1:9",
                "RUNPOD_REST_V2_API_URL": "http://127.0.0.1:9",
                **(variables or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == exit_status, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def program(self, name: str, text: str) -> dict[str, str]:
        """Put a shell script of this name first on PATH; return the variables that do it."""
        folder = self.root / "programs"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(self.root)}

    def pulumi(self, outputs: dict[str, object], version: str = "v3.272.0") -> dict[str, str]:
        """Stand in for the Pulumi CLI: says its version, writes down how it was called, has outputs."""
        (self.root / "outputs.json").write_text(json.dumps(outputs))
        return self.program(
            "pulumi",
            f'[ "$1" = version ] && echo {version} && exit 0\n'
            f'echo "$PWD $*" >>"{self.root}/calls"\n'
            f'[ "$1 $2" = "stack output" ] && exec cat "{self.root}/outputs.json"\n'
            '[ "$1" = preview ] && exit 255\nexit 0',
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(copy_project(tmp_path / "berth"))


@pytest.fixture
def programs(tmp_path: Path) -> Project:
    """A folder for programs that stand in for others, where no copy of the project is needed."""
    return Project(tmp_path)


@dataclass
class Server:
    """An endpoint that speaks OpenAI's protocol as well or as badly as a test wants.

    Args:
        key: what it asks for; None lets everybody in.
        health: the statuses of its health URL, one for each request, the last one for ever.
        stream: what it streams.
        answers: what it answers at a path, JSON or bytes; chat at every other.
        chat_problem: why it refuses chat, with 400; None if it does not.
        asked: the paths that were posted to, with the right key, and what was sent.
        hangs: whether it never answers a chat completion.
    """

    key: str | None = "right-key"
    health: list[int] = field(default_factory=lambda: [200])
    stream: list[dict[str, Any] | str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=lambda: dict(GOOD_ANSWERS))
    chat_problem: str | None = None
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    hangs: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def chunks(self) -> list[str]:
        return [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in self.stream]


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
GOOD_ANSWERS: dict[str, Any] = {
    "/v1/completions": {"choices": [{"index": 0, "text": "Hello there"}], "usage": USAGE},
    "/v1/embeddings": {"data": [{"index": 0, "embedding": [0.6, 0.8]}, {"index": 1, "embedding": [1, 0]}]},
    "/v1/score": {"data": [{"index": 0, "score": 0.9}, {"index": 1, "score": 0.1}]},
    "/v1/rerank": {
        "results": [{"index": 0, "relevance_score": 0.9}, {"index": 1, "relevance_score": 0.1}],
    },
    "/classify": {"data": [{"index": 0, "probs": [0.25, 0.75]}, {"index": 1, "probs": [1, 0]}]},
    "/v1/audio/transcriptions": {"text": ""},
    "/v1/audio/speech": b"RIFF....WAVE",
}
GOOD_STREAM: list[dict[str, Any] | str] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Hello"}}]},
    {"choices": [{"index": 0, "delta": {"content": " there"}}]},
    {"choices": [], "usage": USAGE},
    "[DONE]",
]


class _Handler(BaseHTTPRequestHandler):
    server_version = "test"
    told: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200 if self._has_key() else 401, {"object": "list", "data": [{"id": "served"}]})
            return
        if self.path.endswith("/workers"):
            self._send(200, {"workers": [], "summary": {}})
            return
        status = self.told.health.pop(0) if len(self.told.health) > 1 else self.told.health[0]
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._has_key():
            self._send(401, {"error": "Unauthorized"})
            return
        self.told.asked.append((self.path, content))
        if self.path in self.told.answers:
            self._send(200, self.told.answers[self.path])
            return
        body = json.loads(content)
        if self.told.hangs:
            self.told.released.wait(30)
            return
        if self.told.chat_problem is not None:
            self._send(400, {"error": {"message": self.told.chat_problem}})
        elif body["model"] != "served":
            self._send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        elif body.get("stream"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for chunk in self.told.chunks():
                self.wfile.write(f"data: {chunk}\n\n".encode())
        else:
            message = {"role": "assistant", "content": "Hello there"}
            self._send(200, {"choices": [{"index": 0, "message": message}], "usage": USAGE})

    def _has_key(self) -> bool:
        return self.told.key is None or self.headers["Authorization"] == f"Bearer {self.told.key}"

    def _send(self, status: int, body: Any) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "audio/wav" if encoded is body else "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server(stream=list(GOOD_STREAM))
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"told": told}))
    told.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    yield told
    told.released.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def runpod(tmp_path: Path) -> Iterator[Platform]:
    platform = start_platform(tmp_path / "runpod", wait_seconds=10.0)
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0
