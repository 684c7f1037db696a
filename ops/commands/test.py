"""`berth test`: formatting, lint, types and every test, with what is tested said as it goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from ops import console
from ops.children import run_in_foreground
from ops.errors import OpsError, SilentFailureError
from ops.stacks import LOCAL, PROJECT_FOLDER, settings_of

_BIN = Path(sys.executable).parent
_PYTHON = (sys.executable, "-m")
_STATIC = (
    ("lint", (*_PYTHON, "ruff", "check", "--quiet", ".")),
    ("formatting", (*_PYTHON, "ruff", "format", "--check", "--quiet", ".")),
    ("Dockerfile", (str(_BIN / "hadolint"), "image/Dockerfile")),
    ("types", (*_PYTHON, "mypy")),
)
# The tests of one file share what is slow to start, so a file stays on one worker. Three, as those that bring
# whole stacks up, which are held to two of them (tests/lanes.py), mostly wait.
_PYTEST = (*_PYTHON, "pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--verbose")


def test(context: typer.Context) -> None:
    """Check formatting, lint and types, then run every test. What follows `test` goes to pytest.

    Without arguments the sandbox's programs are made ready first, once for each machine.
    """
    for name, command in _STATIC:
        console.say(f"== {name}: {_shown(command)}")
        if _run(*command) != 0:
            raise OpsError(f"{name}: see above; the tests were not run")
    if not context.args:
        from ops.local import prepare  # noqa: PLC0415  # imports the whole sandbox

        console.say("== what the sandbox runs")
        prepare(settings_of(LOCAL), targets=("eks", "runpod"))
        _prepare_image_builds()
    console.say(f"== tests: {_shown((*_PYTEST, *context.args))}")
    if _run(*_PYTEST, *context.args) != 0:
        raise SilentFailureError


def _prepare_image_builds() -> None:
    """Make ready what builds the image for real; where that cannot be, its tests are skipped."""
    from sandbox import buildah  # noqa: PLC0415  # as above

    try:
        buildah.ready(console.say, install=True)
    except buildah.UnavailableError as error:
        console.say(f"the tests that build the image are skipped: {error}")


def _shown(command: Sequence[str]) -> str:
    return " ".join(command[2:] if command[:2] == _PYTHON else (Path(command[0]).name, *command[1:]))


def _run(*command: str) -> int:
    return run_in_foreground(
        list(command),
        folder=PROJECT_FOLDER,
        environment={**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
