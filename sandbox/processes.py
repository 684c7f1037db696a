"""Starts and stops the sandbox's child processes so that none outlives the one that started it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_SHIM = Path(__file__).with_name("shim.py")


class ProcessError(RuntimeError):
    """A child process could not be started, or did not become ready."""


@dataclass(frozen=True)
class Process:
    """A running child process.

    Args:
        name: what messages call it.
        popen: the process itself.
        log_path: where its standard output and error go.
    """

    name: str
    popen: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's."""
        return self.popen.pid

    def alive(self) -> bool:
        """Say whether the process still runs."""
        return self.popen.poll() is None

    def stop(self, grace_seconds: float = 10.0) -> int:
        """Send SIGTERM, wait, then SIGKILL the whole group; return the exit status."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace_seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait()

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log, for an error message."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(
        self, ready: Callable[[], bool], *, timeout_seconds: float, interval_seconds: float = 0.1
    ) -> None:
        """Wait until `ready()` is true.

        Raises:
            ProcessError: the process ended first, or the time is up; the message carries the log's tail.
        """
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.alive():
                raise ProcessError(
                    f"{self.name} ended with status {self.popen.returncode} before it was ready; "
                    f"its log ({self.log_path}) ends:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready within {timeout_seconds:.0f} s; "
                    f"its log ({self.log_path}) ends:\n{self.log_tail()}"
                )
            time.sleep(interval_seconds)


class _Spawner:
    """One thread that lives as long as this process and forks every child.

    Linux delivers the parent-death signal when the *thread* that forked ends (prctl(2)), so a child started
    from a request's thread would be killed when the request is over.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, start: Callable[[], Process]) -> Process:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="spawner", daemon=True)
                self._thread.start()
        future: Future[Process] = Future()
        self._work.put((start, future))
        return future.result()

    def _loop(self) -> None:
        while True:
            start, future = self._work.get()
            try:
                future.set_result(start())
            except BaseException as error:  # noqa: BLE001  # handed to the caller's thread
                future.set_exception(error)


_spawner = _Spawner()
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    argv: Sequence[str | Path],
    *,
    name: str,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> Process:
    """Start a child in a session of its own that is killed when this process dies, however it dies.

    Args:
        argv: program and arguments.
        name: what messages call it.
        log_path: its standard output and error are appended here.
        env: its whole environment; this process's own by default.
        cwd: its working directory.
        death_signal: what the kernel sends it when this process ends.

    Raises:
        ProcessError: the program cannot be started.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, death_signal)

    def start() -> Process:
        with log_path.open("ab") as log:
            popen = subprocess.Popen(
                [os.fspath(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # prctl only; no lock is taken
            )
        return Process(name, popen, log_path)

    try:
        return _spawner.run(start)
    except OSError as error:
        raise ProcessError(f"{name} cannot be started: {error}") from error


def spawn_contained(
    argv: Sequence[str], *, name: str, log_path: Path, env: Mapping[str, str], cwd: Path
) -> Process:
    """Start a child as `spawn` does, under the shim: nothing that it starts outlives it or this process.

    Args:
        argv: program, by its whole path, and arguments.
        name: what messages call it.
        log_path: its standard output and error are appended here.
        env: its whole environment; TMPDIR is its own folder, which goes when it ends.
        cwd: its working directory.

    Raises:
        ProcessError: the shim cannot be started.
    """
    return spawn(
        [sys.executable, "-I", "-S", _SHIM, str(os.getpid()), *argv],
        name=name,
        log_path=log_path,
        env=env,
        cwd=cwd,
        # To the shim, SIGTERM is a polite stop; this one is the end.
        death_signal=signal.SIGHUP,
    )


def announce(endpoints: Mapping[str, object]) -> None:
    """Print the one JSON line that tells a cloud's starter that it is ready and where it listens."""
    print(json.dumps(endpoints), flush=True)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; call it from the main thread."""
    event = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: event.set())
    return event
