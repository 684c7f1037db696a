"""A worker as the platform runs it: the entrypoint with its queue door, and a fake vLLM behind that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.containers.conftest import PROJECT, free_port, random_address, wait_for
from tests.image.job_platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    StartWorker = Callable[..., "Worker"]

API_KEY = "sk-key-that-vllm-asks-for"
HUB_TOKEN = "hf_token_of_the_hub"


class Worker:
    """A running container of a queue endpoint, and the platform that gives it jobs."""

    def __init__(
        self, folder: Path, arguments: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> None:
        self.platform = Platform()
        self.host = random_address()
        self.port = free_port(self.host)
        self._engine = httpx.Client(base_url=f"http://{self.host}:{self.port}", trust_env=False)
        self.log_path = folder / "log"
        self.termination_log = folder / "termination-log"
        (folder / "bin").mkdir()
        command = folder / "bin/vllm"
        engine = PROJECT / "tests/image/fake_engine.py"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{engine}" "$@"\n')
        command.chmod(0o755)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROJECT / "image/entrypoint.py", *(arguments or ("m",))],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                    "HOME": str(folder),
                    "BERTH_DOOR": "queue",
                    "BERTH_DOOR_PYTHON": sys.executable,
                    "BERTH_HOST": self.host,
                    "PORT": str(self.port),
                    "BERTH_TERMINATION_LOG": str(self.termination_log),
                    "VLLM_API_KEY": API_KEY,
                    "HF_TOKEN": HUB_TOKEN,
                    **self.platform.environment,
                    **(environment or {}),
                },
            )

    def ready(self) -> Worker:
        """Wait until it asks for jobs."""
        wait_for(lambda: self.platform.takes or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        return self

    def run(self, **given: Any) -> Any:
        """Have a job done, and return its output."""
        return self.platform.run(given).output()

    def error(self, **given: Any) -> dict[str, Any]:
        """Have a job refused, and return its error."""
        return self.platform.run(given).error()

    @property
    def seen(self) -> dict[str, Any]:
        """What vLLM was asked."""
        state: dict[str, Any] = self._engine.get("/_seen").json()
        return state

    @property
    def last(self) -> dict[str, Any]:
        """What vLLM was asked last."""
        request: dict[str, Any] = self.seen["requests"][-1]
        return request

    def release(self) -> None:
        """Have vLLM answer the prompts that it holds."""
        self._engine.post("/_release")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def end(self) -> int:
        """Wait for the container's end, and return its status."""
        return self.process.wait(20)

    def close(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        self._engine.close()
        self.platform.close()


@pytest.fixture(scope="package")
def shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker for all tests that only ask, and leave it as it was."""
    worker = Worker(tmp_path_factory.mktemp("worker"))
    try:
        yield worker.ready()
    finally:
        worker.close()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker of the test's own."""
    workers: list[Worker] = []

    def start(*arguments: str, **environment: str) -> Worker:
        folder = tmp_path / str(len(workers))
        folder.mkdir()
        workers.append(Worker(folder, arguments, environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
