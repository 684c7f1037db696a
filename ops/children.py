"""Runs other programs in the foreground, on the terminal of the command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ops.errors import InterruptedCommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def run_in_foreground(command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> int:
    """Run a program that inherits the terminal and return its exit status.

    Ctrl-C reaches the program from the terminal by itself: here it is waited for, so that its own clean-up
    is done and said before the command ends.

    Raises:
        InterruptedCommandError: Ctrl-C was pressed while it ran.
    """
    interrupted = False
    with subprocess.Popen(command, cwd=folder, env=dict(environment)) as process:
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise InterruptedCommandError(f"interrupted: {command[0]} ended with status {status}")
    return status
