"""Adapters at pinned commits: fetched before vLLM starts, each at its commit, and said if that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import adapters

from infra import serving
from tests.infra.stack_files import edited, loaded

IMAGE = Path(__file__).resolve().parents[2] / "image"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"

# What the hub's client does, as far as it is used here.
_CLIENT = """
import os, sys

class RepositoryNotFoundError(Exception):
    pass

def snapshot_download(repository, *, revision):
    if repository == "team/gone":
        raise RepositoryNotFoundError("404 Client Error.\\n\\nRepository Not Found")
    return f"/cache/{repository.replace('/', '--')}/snapshots/{revision}"
"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `adapters.py vllm serve ...` with a hub's client and a vLLM that shows its arguments."""
    (folder / "huggingface_hub.py").write_text(_CLIENT)
    shown = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    (folder / "vllm").write_text(shown)
    (folder / "vllm").chmod(0o755)
    return subprocess.run(
        [sys.executable, str(IMAGE / "adapters.py"), "vllm", *arguments],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_vllm_gets_the_folder_of_each_adapter_at_its_commit(tmp_path: Path) -> None:
    named = {name: {"name": f"team/{name}", "revision": _COMMIT} for name in ("sql", "summary")}
    spec = serving.spec(loaded(edited("model.adapters", named)))
    done = _run(tmp_path, "serve", *spec.args)
    assert done.returncode == 0, done.stderr
    *_, given = done.stdout.splitlines()
    arguments = json.loads(given)
    start = arguments.index("--lora-modules")
    modules = [json.loads(text) for text in arguments[start + 1 : start + 3]]
    assert [module["path"] for module in modules] == [
        f"/cache/team--{name}/snapshots/{_COMMIT}" for name in ("sql", "summary")
    ]
    assert [module["name"] for module in modules] == ["sql", "summary"]
    others = [value for value in spec.args if "@" not in value]
    assert [value for value in arguments[1:] if "/cache/" not in value] == others
    assert f"berth: fetching the adapter team/sql at {_COMMIT}" in done.stdout


def test_an_adapter_that_cannot_be_fetched_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    module = json.dumps({"name": "gone", "path": f"team/gone@{_COMMIT}"})
    done = _run(tmp_path, "serve", "a/b", "--lora-modules", module)
    assert done.returncode == 1
    assert done.stderr.startswith("RepositoryNotFoundError: an adapter cannot be fetched: 404 Client Error.")
    assert "Traceback" not in done.stderr


def test_what_is_no_adapter_is_left_as_it_is() -> None:
    given = ["a/b", "--served-model-name", f"team/x@{_COMMIT}", "--lora-modules", "sql=/local/folder", "--x"]
    assert not adapters.has_pinned(given)
    assert adapters.fetched(given, lambda *_: "no") == given
