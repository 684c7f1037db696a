"""`berth test`: formatting, lint, types and every test, with what is tested said as it goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from ops import console
from ops.children import run_in_foreground
from ops.errors import OpsError, SilentFailureError
from ops.stacks import LOCAL, PROJECT_FOLDER, settings_of

_BIN = Path(sys.executable).parent
_STATIC = (
    ("lint", ("ruff", "check", "--quiet", ".")),
    ("formatting", ("ruff", "format", "--check", "--quiet", ".")),
    ("types", ("mypy",)),
)
# The tests of one file share what is slow to start, so a file stays on one of the two workers.
_PYTEST = ("pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--verbose")


def test(context: typer.Context) -> None:
    """Check formatting, lint and types, then run every test. What follows `test` goes to pytest.

    Without arguments the sandbox's programs are made ready first, once for each machine.
    """
    for name, command in _STATIC:
        console.say(f"== {name}: {' '.join(command)}")
        if _run(*command) != 0:
            raise OpsError(f"{name}: see above; the tests were not run")
    if not context.args:
        from ops.local import prepare  # noqa: PLC0415  # imports the whole sandbox

        console.say("== what the sandbox runs")
        prepare(settings_of(LOCAL), targets=("eks", "runpod"))
    console.say(f"== tests: {' '.join([*_PYTEST, *context.args])}")
    if _run(*_PYTEST, *context.args) != 0:
        raise SilentFailureError


def _run(program: str, *arguments: str) -> int:
    return run_in_foreground(
        [sys.executable, "-m", program, *arguments],
        folder=PROJECT_FOLDER,
        environment={**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
