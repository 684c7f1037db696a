"""The processes that the engine starts: the program and the provider plugins. None outlives the engine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
# The kernel sends the parent-death signal when the thread that forked ends (prctl(2)): this one never does.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


class Child:
    """A child process whose output is read line by line.

    Args:
        argv: program and arguments.
        cwd: its working directory.
        environment: its whole environment.
        say: called with every line that it writes, from a thread of its own.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._say = say
        self.popen = _forker.submit(self._start, argv, cwd, environment).result()
        self._readers: list[threading.Thread] = []
        self._read(self.popen.stderr)

    @staticmethod
    def _start(argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C is for the engine alone, which lets running steps end.
            start_new_session=True,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        )

    def first_line(self) -> str:
        """Return the first line of standard output; "" where the process ended without one."""
        assert self.popen.stdout is not None  # noqa: S101  # it is a pipe
        return self.popen.stdout.readline().strip()

    def read_output(self) -> None:
        """Pass on the lines of standard output from here on."""
        self._read(self.popen.stdout)

    def _read(self, stream: IO[str] | None) -> None:
        def pump() -> None:
            for line in stream or ():
                if line.strip():
                    self._say(line.rstrip("\n"))

        reader = threading.Thread(target=pump, daemon=True)
        reader.start()
        self._readers.append(reader)

    def wait(self) -> int:
        """Wait until the process ended and all its output was passed on; return its exit status."""
        status = self.popen.wait()
        for reader in self._readers:
            reader.join(timeout=5)
        return status

    def kill(self) -> None:
        """End the process and what it started, at once."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.wait()
