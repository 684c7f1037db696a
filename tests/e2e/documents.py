"""Types the commands of the README and docs/ in a clone whose stack `local` is up."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docs.commands import Command
    from tests.e2e.conftest import Clone

_STATUS = {
    "./berth scan --stack local": 1,  # ECR knows no image without an operating system, as its page says
    "./berth jobs status ID --stack local": 1,  # of a job that failed, which is what can be tried again
}
_WITHOUT_END = ("--watch", "--follow")
_TIMEOUT_SECONDS = 300


def type_all(clone: Clone, commands: list[Command], an_id: Callable[[], str]) -> None:
    """Run each command, and see it end as its document says.

    Args:
        clone: the copy of the project to type them in.
        commands: in the order of the documents.
        an_id: asked for what a document calls `ID`, when a command has one.
    """
    for command in commands:
        script = command.script.replace(" ID", f" {an_id()}") if " ID" in command.script else command.script
        status, said = _typed(clone, script, without_end=script.endswith(_WITHOUT_END))
        assert status == _STATUS.get(command.text, 0), f"{command.file}: {script}: {status}\n{said}"
        assert "Traceback" not in said


def _typed(clone: Clone, script: str, *, without_end: bool) -> tuple[int, str]:
    process = subprocess.Popen(
        ["sh", "-c", script],
        cwd=clone.root,
        env={**os.environ, "PATH": f"{clone.root / '.venv/bin'}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if not without_end:
        said, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
        return process.returncode, said
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first, f"{script} ended without a word"
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    # Ctrl-C is how it is meant to end; the shell may be the one that dies of it.
    ended = process.returncode in (130, -signal.SIGINT)
    return 0 if ended else process.returncode, first + said
