"""vLLM's environment and the stand-in model; with `-m e2e`, the real server behind the image's entrypoint."""

from __future__ import annotations

import ctypes
import json
import re
import struct
from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox import model, vllm
from sandbox.containers import Container
from sandbox.standins import bpe, decoder
from sandbox.vllm import stubs
from tests.containers.conftest import PROJECT, free_port, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.images import ImageStore

NAME, REVISION = "Qwen/Qwen2.5-0.5B-Instruct", "7ae557604adf67be50417f59c2c2f167def9a775"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a hub that does not answer."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("BERTH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("soname", stubs.SONAMES)
def test_an_empty_library_can_be_loaded(tmp_path: Path, soname: str) -> None:
    path = tmp_path / soname
    path.write_bytes(stubs.library(soname))
    library = ctypes.CDLL(str(path))
    with pytest.raises(AttributeError):
        library.cublasCreate  # noqa: B018


def test_the_lock_has_the_images_version_and_hashes_only() -> None:
    lock = (PROJECT / "sandbox/vllm/requirements.lock").read_text()
    base = re.search(
        r"^FROM vllm/vllm-openai:v(\S+)$", (PROJECT / "image/Dockerfile").read_text(), re.MULTILINE
    )
    assert base is not None
    assert base[1] == vllm.version()
    assert "://" not in lock
    packages = re.findall(r"^[a-z][^\n]*(?:\n +--hash=\S+(?: \\)?)+", lock, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[a-z]", lock, re.MULTILINE))


def test_this_projects_overrides_are_not_vllms(tmp_path: Path) -> None:
    lock = (PROJECT / "sandbox/vllm/requirements.lock").read_text()
    overridden = tmp_path / "requirements.lock"
    overridden.write_text("".join(re.findall(r"^protobuf==(?:[^\n]*\\\n)+[^\n]*\n", lock, re.MULTILINE)))
    command = [*vllm._uv(print), "pip", "install", "--no-deps", "--require-hashes"]
    vllm._run([*command, "--target", str(tmp_path / "empty"), "-r", str(overridden)], "uv", print)


def test_not_installed_says_so(no_hub: Path) -> None:
    assert no_hub
    with pytest.raises(vllm.NotInstalledError, match=r"python -m sandbox\.vllm"):
        vllm.commands()


def test_disk_is_needed_until_it_is_installed(no_hub: Path) -> None:
    assert no_hub
    assert vllm.needed_gib() > vllm.SIZE_GIB
    vllm.directory().mkdir(parents=True)
    assert vllm.needed_gib() > vllm.SIZE_GIB  # an interrupted installation is made anew
    (vllm.directory() / ".berth-finished").touch()
    assert vllm.needed_gib() == 0


def test_a_small_disk_is_refused(no_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "SIZE_GIB", 1e6)
    with pytest.raises(
        vllm.InstallError, match=r"needs 1000000\.5 GiB in .* GiB are free; set BERTH_CACHE_DIR"
    ):
        vllm.ensure(lambda _: None)
    assert not list(no_hub.rglob("python*"))


def test_the_stand_in_is_in_the_hubs_layout_and_says_what_it_is(no_hub: Path) -> None:
    said: list[str] = []
    folder = model.ensure(NAME, REVISION, said.append)
    home = no_hub / "cache/huggingface"
    assert folder == home / "hub/models--Qwen--Qwen2.5-0.5B-Instruct/snapshots" / REVISION
    assert (folder.parents[1] / "refs/main").read_text() == REVISION
    assert any("stand-in" in line for line in said)
    assert model.is_stand_in(folder)
    assert model.hub_environment()["HF_HOME"] == str(home)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["max_position_embeddings"] == 32768
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert model.ensure(NAME, REVISION, said.append) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_branch_of_a_stand_in(no_hub: Path) -> None:
    assert no_hub
    folder = model.ensure(NAME, "main", lambda _: None)
    assert (folder.parents[1] / "refs/main").read_text() == folder.name
    assert model.ensure(NAME, "main", lambda _: None) == folder


def test_the_stand_in_is_the_same_everywhere(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        decoder.write_chat(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "tokenizer.json" in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_weights_are_whole(tmp_path: Path) -> None:
    decoder.write_chat(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    vocabulary = json.loads((tmp_path / "config.json").read_text())["vocab_size"]
    assert header["lm_head.weight"]["shape"][0] == vocabulary
    assert (
        max(tensor["data_offsets"][1] for name, tensor in header.items() if name[0] != "_")
        == len(content) - 8 - size
    )


def test_bpe_joins_the_most_frequent_pair_first() -> None:
    assert bpe.learn("aab aab ab", 2) == [("a", "b"), ("a", "ab")]
    assert len(set(bpe.byte_alphabet().values())) == 256


@pytest.mark.e2e
def test_vllm_answers_through_the_images_entrypoint(
    store: ImageStore, pushed: str, tmp_path: Path, address: str
) -> None:
    vllm.ensure(print)
    model.ensure(NAME, REVISION, print)
    port, health = free_port(address), free_port(address)
    container = Container.start(
        store.pull(pushed),
        name="vllm",
        directory=tmp_path / "c",
        address=address,
        log_path=tmp_path / "log",
        args=[NAME, "--revision", REVISION, "--max-model-len", "512", "--served-model-name", "tiny"],
        env={"PORT": str(port), "PORT_HEALTH": str(health), "VLLM_API_KEY": "the-secret-key"},
    )
    try:
        url = f"http://{address}:{port}/v1/chat/completions"
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        headers = {"Authorization": "Bearer the-secret-key"}
        with httpx.Client(trust_env=False, timeout=60) as http:

            def ready() -> bool:
                assert container.poll() is None, container.log_path.read_text()[-2000:]
                try:
                    return http.get(f"http://{address}:{health}/ping").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(ready, 180)
            answer = http.post(url, json=body, headers=headers)
            assert answer.status_code == 200
            assert answer.json()["usage"]["completion_tokens"] > 0
            assert http.post(url, json=body).status_code == 401
            too_long = {**body, "max_tokens": 513}
            assert http.post(url, json=too_long, headers=headers).status_code == 400
        assert container.stop(30) == 0
        assert "the-secret-key" not in container.log_path.read_text()
    finally:
        container.kill()
