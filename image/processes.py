"""A child of the container's first process: its log, with secrets blanked out, its signals and its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SECRETS = ("VLLM_API_KEY", *HUB_TOKENS)
# The key that RunPod gives its workers. Nobody sets it: it is no setting of ours.
WORKER_SECRETS = (*SECRETS, "RUNPOD_AI_API_KEY")
# Enough for the traceback of the engine and that of the server, which repeats it.
LINES_KEPT = 400
# vLLM's engine may still hold the log's pipe for a moment after the server has ended.
LAST_LINES_SECONDS = 2.0


class Child:
    """A process that was started here.

    Attributes:
        code: its exit status once it has ended: its own, or 128+n if signal n ended it.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            OSError: the program cannot be started.
        """
        self.code: int | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        # A value too short to be a secret would blank out ordinary words.
        self._secrets = [
            os.environb[name.encode()] for name in WORKER_SECRETS if len(os.environ.get(name, "")) >= 6
        ]
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid
        self._log = threading.Thread(target=self._copy_log, daemon=True)
        self._log.start()

    @property
    def lines(self) -> list[str]:
        """The last lines of its log."""
        return list(self._lines)

    def signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None  # noqa: S101  # it was asked for
        with contextlib.suppress(OSError):  # it may have ended
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def reaped(self, wait_status: int) -> None:
        """Take note of its end, and of its last lines."""
        code = os.waitstatus_to_exitcode(wait_status)
        self._process.returncode = code
        self.code = code if code >= 0 else 128 - code
        self._log.join(LAST_LINES_SECONDS)

    def _copy_log(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        for line in self._process.stdout:
            for secret in self._secrets:
                line = line.replace(secret, b"***")  # noqa: PLW2901
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            self._lines.append(line.decode(errors="replace").rstrip("\n"))
