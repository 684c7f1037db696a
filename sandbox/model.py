"""Puts a model where the sandbox's vLLM finds it: the real one where a hub answers, else a tiny stand-in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock

from sandbox import cache, standin, vllm

if TYPE_CHECKING:
    from collections.abc import Callable

_HUB = "https://huggingface.co"
_PROBE_SECONDS = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
# The commit that a stand-in is filed under when the revision is a branch or a tag.
_STAND_IN_COMMIT = "0" * 40


class ModelError(RuntimeError):
    """The model cannot be had; the message says why."""


def hub_environment() -> dict[str, str]:
    """Return what tells vLLM where the models are, and that it need not ask the hub for them."""
    return {"HF_HOME": str(_home()), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def ensure(name: str, revision: str, report: Callable[[str], None]) -> Path:
    """Have a model in the cache, in the layout of the hub's own cache, and return its folder.

    Args:
        name: the model's name on the hub ("Qwen/Qwen2.5-0.5B-Instruct").
        revision: a commit (40 hex digits), a branch or a tag.
        report: takes lines that say what is done.

    Raises:
        ModelError: the hub answers but the model cannot be downloaded.
    """
    repository = _home() / "hub" / f"models--{name.replace('/', '--')}"
    repository.mkdir(parents=True, exist_ok=True)
    with FileLock(repository / ".berth.lock"):
        folder = _snapshot(repository, revision)
        if folder.is_dir():
            if is_stand_in(folder):
                report(
                    f"model: {name} is a stand-in, random weights (delete {repository} to ask the hub again)"
                )
            return folder
        if _hub_has(name, revision):
            return _download(name, revision, repository, report)
        report(
            f"model: no model hub answers; making a tiny stand-in for {name} "
            "(same architecture, random weights: its answers mean nothing)"
        )
        return _make_stand_in(name, revision, repository)


def is_stand_in(folder: Path) -> bool:
    """Say whether a model's folder holds a stand-in instead of the real model."""
    return (folder / ".berth-stand-in").exists()


def _home() -> Path:
    return cache.directory() / "huggingface"


def _snapshot(repository: Path, revision: str) -> Path:
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    return repository / "snapshots" / commit


def _hub_has(name: str, revision: str) -> bool:
    endpoint = os.environ.get("HF_ENDPOINT", _HUB)
    try:
        response = httpx.head(
            f"{endpoint}/{name}/resolve/{revision}/config.json", timeout=_PROBE_SECONDS, follow_redirects=True
        )
    except httpx.HTTPError:
        return False
    return response.is_success


def _download(name: str, revision: str, repository: Path, report: Callable[[str], None]) -> Path:
    report(f"model: downloading {name} at {revision} from the hub")
    environment = {**os.environ, "HF_HOME": str(_home())}
    script = (
        "import sys, huggingface_hub; huggingface_hub.snapshot_download(sys.argv[1], revision=sys.argv[2])"
    )
    result = subprocess.run(
        [vllm.python(), "-c", script, name, revision],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no reason given"]
        raise ModelError(f"the model {name} at {revision} cannot be downloaded: {lines[-1]}")
    return _snapshot(repository, revision)


def _make_stand_in(name: str, revision: str, repository: Path) -> Path:
    commit = revision if _COMMIT.fullmatch(revision) else _STAND_IN_COMMIT
    folder = repository / "snapshots" / commit
    folder.parent.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=repository))
    try:
        standin.write(work, name)
        (work / ".berth-stand-in").touch()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for reference in {"main", revision} - {commit}:
        path = repository / "refs" / reference
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(commit)
    return folder
