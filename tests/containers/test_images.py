"""The docker command against a registry, and pulling what it pushed."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from sandbox.docker import main
from sandbox.images import ImageError, ImageNotFoundError, ImagePullError, extract_layer
from tests.containers.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.images import ImageStore
    from tests.containers.conftest import Docker
    from tests.containers.registry import Registry

HOST = REPOSITORY.partition("/")[0]


def test_push_then_pull_by_digest_and_by_tag(pushed: str, store: ImageStore, image_context: Path) -> None:
    image = store.pull(pushed)
    assert pushed == f"{REPOSITORY}@{image.digest}"
    assert image.entrypoint == ("python3", "/opt/berth/entrypoint.py")
    assert image.user == "2000:0"
    assert image.workdir == "/home/vllm"
    assert image.ports == ("8000/tcp",)
    assert image.env["PORT"] == "8000"
    source = (image_context / "entrypoint.py").read_text()
    assert (image.rootfs / "opt/berth/entrypoint.py").read_text() == source
    assert store.pull(f"{REPOSITORY}:t").digest == image.digest


def test_what_was_pulled_needs_no_registry(pushed: str, store: ImageStore, registry: Registry) -> None:
    first = store.pull(pushed)
    registry.blobs.clear()
    registry.manifests.clear()
    assert store.pull(pushed) == first


def test_several_pulls_at_once(pushed: str, store: ImageStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(store.pull, [pushed] * 8))
    assert len({image.rootfs for image in images}) == 1
    assert not list(store.directory.glob("pull-*"))


def test_a_second_push_sends_nothing_again(docker: Docker, image_context: Path) -> None:
    docker.push(image_context)
    output = docker("push", f"{REPOSITORY}:t").stdout
    assert "Layer already exists" in output
    assert ": Pushed" not in output


def test_what_the_registry_does_not_have(pushed: str, store: ImageStore) -> None:
    assert pushed
    with pytest.raises(ImageNotFoundError, match=r"other:t: MANIFEST_UNKNOWN.*HTTP 404"):
        store.pull(f"{HOST}/other:t")
    with pytest.raises(ImagePullError, match="reaches only its own registry"):
        store.pull("docker.io/library/ubuntu:24.04")
    with pytest.raises(ImageError, match="not of the form"):
        store.pull("Not An Image")


def test_a_damaged_blob_is_not_unpacked(pushed: str, store: ImageStore, registry: Registry) -> None:
    manifest = json.loads(registry.manifests["berth", pushed.partition("@")[2]])
    layer = manifest["layers"][0]["digest"]
    registry.blobs[layer] = registry.blobs[layer][:-1] + b"x"
    with pytest.raises(ImagePullError, match=f"{layer} arrived damaged"):
        store.pull(pushed)
    assert not [path for path in store.directory.iterdir() if path.is_dir()]


def test_login_with_a_wrong_password(docker: Docker) -> None:
    result = docker("login", "--username", "AWS", "--password-stdin", HOST, stdin="wrong-word", status=1)
    assert "401 Unauthorized" in result.stderr
    assert "wrong-word" not in result.stderr + result.stdout


def test_push_without_login(docker: Docker, image_context: Path) -> None:
    docker("build", "-t", f"{REPOSITORY}:t", str(image_context))
    assert "run docker login first" in docker("push", f"{REPOSITORY}:t", status=1).stderr


def test_inspect_and_images_show_what_was_built(docker: Docker, image_context: Path) -> None:
    docker("build", "-t", f"{REPOSITORY}:t", "--label", "commit=abc", str(image_context))
    description = json.loads(docker("inspect", f"{REPOSITORY}:t").stdout)[0]
    assert description["RepoTags"] == [f"{REPOSITORY}:t"]
    assert description["RepoDigests"] == []
    assert description["Config"]["Labels"]["commit"] == "abc"
    assert REPOSITORY in docker("images").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "x"], "invalid choice: 'run'"),
        (["build", "--squash", "."], "--squash"),
        (["build", "--platform", "linux/arm64", "."], "linux/arm64 is not supported"),
        (["build", "/no/such"], "is not a folder"),
        (["login", "-u", "AWS", HOST], "--password-stdin"),
        (["push", f"{REPOSITORY}:none"], "No such image"),
    ],
)
def test_what_docker_does_not_do_is_named(docker: Docker, arguments: list[str], words: str) -> None:
    result = docker(*arguments, status=1)
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_state_is_kept_in_a_builds_own_home_but_not_in_a_persons(
    tmp_path: Path, image_context: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    assert main(["build", "-t", f"{REPOSITORY}:t", str(image_context)]) == 1
    assert "set DOCKER_CONFIG" in capsys.readouterr().err
    monkeypatch.setenv("CODEBUILD_BUILD_ID", "berth:1")
    assert main(["build", "-t", f"{REPOSITORY}:t", str(image_context)]) == 0
    assert (tmp_path / "home/.docker/images/names.json").exists()


def _layer(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "layer.tar"
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_whiteouts_delete_what_lower_layers_have(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc/sub").mkdir(parents=True)
    (rootfs / "etc/old").touch()
    (rootfs / "etc/sub/below").touch()
    names = ("etc/.wh.old", "etc/sub/.wh..wh..opq", "etc/sub/new")
    extract_layer(_layer(tmp_path, *((tarfile.TarInfo(name), b"") for name in names)), rootfs)
    assert sorted(path.name for path in (rootfs / "etc").rglob("*")) == ["new", "sub"]


def test_a_layer_cannot_reach_outside(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / "rootfs").mkdir()
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    for member in (tarfile.TarInfo("../evil"), tarfile.TarInfo("../.wh.precious"), link):
        with pytest.raises(ImageError):
            extract_layer(_layer(tmp_path, (member, b"")), tmp_path / "rootfs")
    assert (tmp_path / "precious").exists()
    assert not (tmp_path / "evil").exists()
