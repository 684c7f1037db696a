"""Times the stack `local` from an empty machine to an empty machine, step by step, with memory and disk.

    python benchmarks/local_path.py --cache FOLDER --output benchmarks/results/local_path.json

It clones this repository into a temporary folder, so it measures what is committed. `--cache` is Berth's
cache for the run; an empty one makes the first `up` that of a new machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

_ROOT = Path(__file__).resolve().parent.parent
_UP = "./berth up --stack local --yes --no-smoke"
_DESTROY = "./berth destroy --stack local --yes"
_STEPS = (
    ("first up", _UP),
    ("smoke, RunPod from zero", "./berth smoke --stack local"),
    ("smoke, both warm", "./berth smoke --stack local"),
    ("preview, nothing changed", "./berth preview --stack local"),
    ("up, nothing changed", _UP),
    ("destroy", _DESTROY),
    ("second up, cached", _UP),
    ("destroy again", _DESTROY),
)


@dataclass(frozen=True)
class Step:
    """One command's wall time and exit status, and what the sandbox held while it ran."""

    name: str
    command: str
    seconds: float
    exit_status: int
    peak_memory_gib: float


@dataclass
class Run:
    """All that one run of the benchmark saw."""

    machine: str
    commit: str
    steps: list[Step] = field(default_factory=list)
    disk_gib: dict[str, float] = field(default_factory=dict)
    peak_disk_gib: float = 0.0


class _Watch:
    """Samples the proportional set size of every process that runs from the clone, and the disk in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._stop = threading.Event()
        self._peak = 0
        self._used_before = shutil.disk_usage(folder).used
        self._peak_used = self._used_before
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def memory_gib(self) -> float:
        return self._peak / 2**30

    @property
    def disk_gib(self) -> float:
        return (self._peak_used - self._used_before) / 2**30

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._peak = max(self._peak, sum(self._held(process) for process in psutil.process_iter()))
            self._peak_used = max(self._peak_used, shutil.disk_usage(self._folder).used)

    def _held(self, process: psutil.Process) -> int:
        try:
            ours = process.cwd().startswith(self._folder) or self._folder in " ".join(process.cmdline())
            return int(process.memory_full_info().pss) if ours else 0
        except psutil.Error:
            return 0


def _disk_gib(folder: Path) -> float:
    output = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout
    return int(output.split()[0]) / 2**20


def _steps(targets: str) -> tuple[tuple[str, str], ...]:
    """Return the steps for these targets: RunPod alone is asked once, as it has no endpoint that waits."""
    return _STEPS if targets == "both" else tuple(step for step in _STEPS if step[0] != "smoke, both warm")


def _measure(clone: Path, cache: Path, targets: str) -> Run:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True
    )
    machine = (
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.platform()}"
    )
    run = Run(machine, commit.stdout.strip())
    environment = {**os.environ, "BERTH_CACHE_DIR": str(cache)}
    for name, command in _steps(targets):
        print(f"\n== {name}: {command}", flush=True)
        with _Watch(clone) as watch:
            begun = time.monotonic()
            status = subprocess.run(shlex.split(command), cwd=clone, env=environment, check=False).returncode
            seconds = time.monotonic() - begun
        run.steps.append(Step(name, command, round(seconds, 1), status, round(watch.memory_gib, 2)))
        run.peak_disk_gib = max(run.peak_disk_gib, round(watch.disk_gib, 2))
        if "smoke" in name:
            run.disk_gib = {
                "cache": round(_disk_gib(cache), 2),
                ".venv": round(_disk_gib(clone / ".venv"), 2),
                ".sandbox": round(_disk_gib(clone / ".sandbox"), 2),
            }
    return run


def main() -> int:
    """Run every step, print the table, write the record; exit 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="Berth's cache folder for this run")
    parser.add_argument("--output", type=Path, required=True, help="where the record is written")
    parser.add_argument("--targets", choices=("both", "runpod"), default="both", help="the stack's targets")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="berth-benchmark-"))
    clone = folder / "berth"
    arguments.cache.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", _ROOT, clone], check=True)
    if arguments.targets == "runpod":
        stack_file = clone / "stacks" / "Pulumi.local.yaml"
        stack_file.write_text(stack_file.read_text().replace("[eks, runpod]", "[runpod]"))
    try:
        run = _measure(clone, arguments.cache.resolve(), arguments.targets)
    finally:
        subprocess.run(shlex.split(_DESTROY), cwd=clone, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(asdict(run), indent=2) + "\n")
    for step in run.steps:
        print(
            f"{step.name:28} {step.seconds:8.1f} s  {step.peak_memory_gib:6.2f} GiB  exit {step.exit_status}"
        )
    print(f"disk GiB: {run.disk_gib}; most in use by a step: {run.peak_disk_gib}")
    return int(any(step.exit_status for step in run.steps))


if __name__ == "__main__":
    sys.exit(main())
