"""The stack's server on this machine: vLLM with the stack's arguments, by the image's entrypoint."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import psutil

from infra import serving
from ops import reasons
from ops.bench.calls import Target
from ops.errors import OpsError
from ops.local import prepare
from ops.stacks import PROJECT_FOLDER
from sandbox import model, vllm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from infra.settings import Settings

_ADDRESS = "127.0.0.1"
_POLL_SECONDS = 0.5
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Machine:
    """What this machine runs the server with.

    Args:
        gpus: the names of its GPUs; empty for a machine without.
        commands: the folder with `vllm` and its Python.
        environment: variables beside the stack's own.
    """

    gpus: tuple[str, ...]
    commands: Path
    environment: dict[str, str]

    def __str__(self) -> str:
        if not self.gpus:
            return f"{os.cpu_count()} cores of a CPU"
        return " and ".join(f"{self.gpus.count(name)} × {name}" for name in dict.fromkeys(self.gpus))


def this_machine(settings: Settings, *, quiet: bool) -> Machine:
    """Return what there is, and without a GPU make ready what the sandbox serves with: vLLM and the model.

    Args:
        settings: the stack's, for its model.
        quiet: write nothing where there is no terminal.

    Raises:
        OpsError: there is a GPU and no vLLM, or the sandbox's cannot be made ready.
    """
    gpus = _gpus()
    if gpus:
        command = shutil.which("vllm")
        if command is None:
            raise OpsError(
                f"this machine has GPUs and no `vllm` on PATH: install vllm=={vllm.version()}, which is the"
                " image's, and put it there"
            )
        return Machine(gpus, Path(command).parent, {})
    prepare(settings, targets=("runpod",), quiet=quiet)
    return Machine((), vllm.commands(), {**vllm.environment(), **model.hub_environment()})


def _gpus() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    done = subprocess.run(
        [command, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return tuple(done.stdout.split("\n")[:-1]) if done.returncode == 0 else ()


class NotStartedError(Exception):
    """The server did not start; the message says why, in its own words."""


class Server:
    """One server, for as long as it is used with `with`.

    Args:
        settings: what it serves, and how.
        machine: what it runs with.
        report: takes lines of progress.
    """

    def __init__(self, settings: Settings, machine: Machine, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._machine = machine
        self._report = report
        self._key = secrets.token_urlsafe(16)
        self._folder = Path(tempfile.mkdtemp(prefix="berth-bench-"))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> Target:
        """Start it and wait until it answers.

        Raises:
            NotStartedError: it ended, or was not ready within the stack's `startup_timeout_seconds`.
        """
        spec = serving.spec(self._settings)
        port = _free_port()
        python = self._machine.commands / "python3"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # By vLLM's own Python, as in the image, where there is one beside it.
                [
                    str(python if python.exists() else sys.executable),
                    str(PROJECT_FOLDER / "image" / "entrypoint.py"),
                    *spec.args,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for this command, which then ends the server.
                start_new_session=True,
                env={
                    **os.environ,
                    **spec.environment,
                    **self._machine.environment,
                    "PATH": f"{self._machine.commands}:{os.environ['PATH']}",
                    "PORT": str(port),
                    "BERTH_HOST": _ADDRESS,
                    "BERTH_TERMINATION_LOG": str(self._folder / "reason"),
                    "VLLM_API_KEY": self._key,
                },
            )
        url = f"http://{_ADDRESS}:{port}"
        self._wait(f"{url}{spec.health_path}", spec.startup_timeout_seconds)
        return Target(f"{url}/v1", self._key, spec.served_name, self._settings.model.task)

    def _wait(self, health: str, limit_seconds: float) -> None:
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < limit_seconds:
            if self._process is None or self._process.poll() is not None:
                raise NotStartedError(self._reason())
            self._report(f"starting vLLM ({waited // 10 * 10:.0f} s)")
            try:
                if httpx.get(health, timeout=_POLL_SECONDS, trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(_POLL_SECONDS)
        raise NotStartedError(f"not ready in {limit_seconds:.0f} s; its last lines: {self._last_lines()}")

    def _reason(self) -> str:
        """Return why it ended: in the entrypoint's words, else in its log's."""
        reason = self._folder / "reason"
        return reason.read_text().strip() if reason.exists() else self._last_lines()

    def _last_lines(self) -> str:
        return reasons.reason_in_log(self._log.read_text(errors="replace").splitlines())

    def _stop(self) -> None:
        """End it and all that it has started: the next one needs the GPU's memory."""
        if self._process is None:
            return
        try:
            group = [*psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            group = []
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in group:
            if process.is_running():
                process.kill()
        psutil.wait_procs(group, timeout=_STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_ADDRESS, 0))
        return int(free.getsockname()[1])
