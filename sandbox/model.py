"""Puts a model where the sandbox's vLLM finds it: the real one where a hub answers, else a small stand-in."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock

from sandbox import cache, standins, vllm
from sandbox.standins import adapter, decoder, encoder, packaged, vision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HUB = "https://huggingface.co"
_PROBE_SECONDS = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
# The commit that a stand-in is filed under when the revision is a branch or a tag.
_STAND_IN_COMMIT = "0" * 40
_MARK = ".berth-stand-in"


@dataclass(frozen=True)
class _Family:
    """What stands in for the models of one architecture.

    Args:
        name: what messages and the stand-in's mark call it.
        task: what the models are for, as a stack's `model.task` says it.
        pattern: what their names have in them.
        write: writes configuration, tokenizer and weights into a folder.
    """

    name: str
    task: str
    pattern: str
    write: Callable[[Path], None]


def _random(architecture: str) -> str:
    return f"{architecture} with random weights, whose answers mean nothing"


# The first that fits: by task, and by name where models of one task differ.
_FAMILIES = (
    _Family("Whisper base, whose weights are real", "transcribe", "", packaged.write_whisper),
    _Family(_random("a tiny Qwen2 classifier"), "classify", "", decoder.write_classifier),
    _Family(
        _random("a tiny BERT cross-encoder"), "score", r"MiniLM|TinyBERT|bert-", encoder.write_bert_reranker
    ),
    _Family(_random("a tiny XLM-RoBERTa cross-encoder"), "score", "", encoder.write_xlm_reranker),
    _Family(_random("a tiny XLM-RoBERTa"), "embed", r"multilingual|bge-m3|xlm", encoder.write_xlm_embedder),
    _Family(_random("a tiny BERT"), "embed", "", encoder.write_bert_embedder),
    _Family(_random("a tiny Qwen2.5-VL"), "generate", r"\bVL\b|vision", vision.write),
    _Family(_random("a tiny Llama in GPTQ's 4 bits"), "generate", r"llama.*GPTQ", decoder.write_llama_gptq),
    _Family(_random("a tiny Llama"), "generate", "llama", decoder.write_llama),
    _Family(_random("a tiny Qwen2"), "generate", "", decoder.write_chat),
)
# Real models that are small enough to be had in a package.
_PACKAGED = {
    packaged.MINILM: packaged.write_minilm,
    packaged.WHISPER: packaged.write_whisper,
}


@dataclass(frozen=True)
class Model:
    """What a stack serves.

    Args:
        name: the model's name on the hub.
        revision: its commit there; empty where its server brings it, and nothing has to be had.
        task: what it is for.
        adapters: the commits of its LoRA adapters, by their names on the hub.
    """

    name: str
    revision: str
    task: str
    adapters: Mapping[str, str]

    def ensure(self, report: Callable[[str], None]) -> None:
        """Have all of it in the cache.

        Args:
            report: takes lines that say what is done.

        Raises:
            ModelError: a part of it cannot be had.
        """
        if not self.revision:
            return
        ensure(self.name, self.revision, report, self.task)
        for adapter_name, revision in self.adapters.items():
            ensure_adapter(adapter_name, revision, self.name, report)


class ModelError(RuntimeError):
    """The model cannot be had; the message says why."""


def hub_environment() -> dict[str, str]:
    """Return what tells vLLM where the models are, and that it need not ask the hub for them."""
    return {"HF_HOME": str(_home()), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def ensure(name: str, revision: str, report: Callable[[str], None], task: str = "generate") -> Path:
    """Have a model in the cache, in the layout of the hub's own cache, and return its folder.

    Args:
        name: the model's name on the hub ("Qwen/Qwen2.5-0.5B-Instruct").
        revision: a commit (40 hex digits), a branch or a tag.
        report: takes lines that say what is done.
        task: what the model is for: `generate`, `embed`, `score`, `classify` or `transcribe`. It decides
            about the stand-in where there is no hub.

    Raises:
        ModelError: the hub answers but the model cannot be downloaded, or neither the hub nor the package
        index has it.
    """
    if name in _PACKAGED:
        return _ensure(name, revision, "config.json", _PACKAGED[name], report)
    family = next(
        family
        for family in _FAMILIES
        if family.task == task and re.search(family.pattern, name, re.IGNORECASE)
    )
    return _ensure(name, revision, "config.json", family.write, report, family.name)


def ensure_adapter(name: str, revision: str, base: str, report: Callable[[str], None]) -> Path:
    """Have a LoRA adapter in the cache, as `ensure` has a model, and return its folder.

    Args:
        name: the adapter's name on the hub.
        revision: a commit (40 hex digits), a branch or a tag.
        base: the name of the model that it changes.
        report: takes lines that say what is done.

    Raises:
        ModelError: the hub answers but the adapter cannot be downloaded.
    """

    def write(directory: Path) -> None:
        adapter.write(directory, name, base)

    return _ensure(name, revision, "adapter_config.json", write, report, _random("a LoRA adapter"))


def _ensure(
    name: str,
    revision: str,
    file: str,
    write: Callable[[Path], None],
    report: Callable[[str], None],
    stand_in: str | None = None,
) -> Path:
    """Have what is in the cache, on the hub, or can be made, and return its folder.

    Args:
        name: its name on the hub.
        revision: its commit, a branch or a tag.
        file: a file that is there if it is on the hub.
        write: makes it where there is no hub.
        report: takes lines that say what is done.
        stand_in: what is made, if that is not the thing itself.
    """
    repository = _home() / "hub" / f"models--{name.replace('/', '--')}"
    repository.mkdir(parents=True, exist_ok=True)
    with FileLock(repository / ".berth.lock"):
        folder = _snapshot(repository, revision)
        mark = folder / _MARK
        if folder.is_dir() and not mark.exists():
            return folder
        recipe = f"{stand_in}\n{_recipe()}\n"
        if folder.is_dir() and mark.read_text() == recipe:
            report(f"model: {name} has a stand-in, {stand_in} (delete {repository} to ask the hub again)")
            return folder
        if _hub_has(name, revision, file):
            return _download(name, revision, repository, report)
        source = f"has a stand-in, {stand_in}" if stand_in else "comes out of a package"
        report(f"model: no model hub answers; {name} {source}")
        try:
            return _make(revision, repository, write, recipe if stand_in else None)
        except vllm.InstallError as error:
            raise ModelError(f"the model {name} cannot be had: {error}") from error


def is_stand_in(folder: Path) -> bool:
    """Say whether a model's folder holds a stand-in instead of the real model."""
    return (folder / _MARK).exists()


def _recipe() -> str:
    """Return what changes with the code that stand-ins are made by."""
    sources = sorted(Path(standins.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _home() -> Path:
    return cache.directory() / "huggingface"


def _snapshot(repository: Path, revision: str) -> Path:
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    return repository / "snapshots" / commit


def _hub_has(name: str, revision: str, file: str) -> bool:
    endpoint = os.environ.get("HF_ENDPOINT", _HUB)
    try:
        response = httpx.head(
            f"{endpoint}/{name}/resolve/{revision}/{file}", timeout=_PROBE_SECONDS, follow_redirects=True
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


def _make(revision: str, repository: Path, write: Callable[[Path], None], mark: str | None) -> Path:
    commit = revision if _COMMIT.fullmatch(revision) else _STAND_IN_COMMIT
    folder = repository / "snapshots" / commit
    folder.parent.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=repository))
    try:
        write(work)
        if mark:
            (work / _MARK).write_text(mark)
        shutil.rmtree(folder, ignore_errors=True)  # a stand-in of another recipe
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for reference in {"main", revision} - {commit}:
        path = repository / "refs" / reference
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(commit)
    return folder
