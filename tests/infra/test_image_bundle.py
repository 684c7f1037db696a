"""The image's source bundle is the same wherever it is made, and another when its content is."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from infra.image_bundle import bundle
from tests.infra.graph import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def _source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "entrypoint.py").write_text("print(1)\n")
    return folder


def test_times_modes_and_caches_do_not_matter(tmp_path: Path) -> None:
    first = bundle(_source(tmp_path / "a"))
    other = _source(tmp_path / "b")
    (other / "entrypoint.py").chmod(0o755)
    os.utime(other / "Dockerfile", (1, 1))
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "entrypoint.pyc").write_bytes(b"x")
    assert bundle(other) == first


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_content_and_names_matter(tmp_path: Path, change: str) -> None:
    folder = _source(tmp_path / "a")
    before = bundle(folder)
    if change == "content":
        (folder / "entrypoint.py").write_text("print(2)\n")
    elif change == "name":
        (folder / "entrypoint.py").rename(folder / "main.py")
    else:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("")
    assert bundle(folder).sha256 != before.sha256


def test_it_holds_the_files_of_the_image() -> None:
    folder = ROOT / "image"
    with zipfile.ZipFile(io.BytesIO(bundle(folder).content)) as archive:
        assert archive.read("Dockerfile") == (folder / "Dockerfile").read_bytes()
        assert archive.testzip() is None


def test_a_folder_without_a_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no Dockerfile"):
        bundle(tmp_path)
