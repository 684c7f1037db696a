"""Releases are downloaded and checked where there is a site, and everything is pinned in one place."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import binaries, release, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A release site with one version, `v1.0.0`, of `kubectl` and of etcd."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "kubectl").write_bytes(b"#!/bin/sh\necho kubectl\n")
    (root / "kubectl.sha256").write_text(hashlib.sha256((root / "kubectl").read_bytes()).hexdigest())
    archive = io.BytesIO()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    name = f"etcd-v1.0.0-linux-{machine}"
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"{name}/etcd")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"etcd"))
    (root / f"{name}.tar.gz").write_bytes(archive.getvalue())
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    (root / "SHA256SUMS").write_text(f"{'0' * 64}  other.tar.gz\n{digest}  {name}.tar.gz\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(release, "_KUBERNETES", url + "/{program}")
    monkeypatch.setattr(release, "_ETCD", url)
    yield root
    server.shutdown()
    server.server_close()


def download(target: Path, *programs: str) -> list[str]:
    target.mkdir(exist_ok=True)
    lines: list[str] = []
    release.download(target, programs, "v1.0.0", "v1.0.0", lines.append)
    return lines


def test_a_release_is_downloaded_once(site: Path, tmp_path: Path) -> None:
    target = tmp_path / "programs"
    assert len(download(target, "kubectl", "etcd")) == 2
    assert (target / "etcd").read_bytes() == b"etcd"
    assert os.access(target / "kubectl", os.X_OK)
    assert sorted(path.name for path in target.iterdir()) == ["etcd", "kubectl"]
    (site / "kubectl").unlink()
    assert download(target, "kubectl", "etcd") == []


def test_a_damaged_program_is_refused(site: Path, tmp_path: Path) -> None:
    (site / "kubectl").write_bytes(b"something else")
    with pytest.raises(release.ReleaseError, match="was released"):
        download(tmp_path / "programs", "kubectl")
    assert not any((tmp_path / "programs").iterdir())


def test_no_release_is_known_at_once(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(release.NotAvailableError, match="404"):
        download(tmp_path / "programs", "kube-apiserver")
    (site / "kubectl.sha256").write_text("<html>please sign in</html>")
    with pytest.raises(release.NotAvailableError, match="no checksum file"):
        download(tmp_path / "programs", "kubectl")
    monkeypatch.setattr(release, "_KUBERNETES", "http://release.invalid/{program}")
    began = time.monotonic()
    with pytest.raises(release.NotAvailableError, match=r"release\.invalid"):
        download(tmp_path / "programs", "kubectl")
    assert time.monotonic() - began < 10


def test_versions_come_from_the_module_file() -> None:
    assert binaries.version().startswith("v1.35.")
    assert binaries.etcd_version().startswith("v3.6.")
    assert binaries.directory().name == f"kubernetes-{binaries.version()}"


def test_a_build_leaves_the_programs_alone(tmp_path: Path) -> None:
    module, target = tmp_path / "module", tmp_path / "target"
    for name in ("server", "kubectl"):
        (module / name).mkdir(parents=True)
        (module / name / "main.go").write_text(f'package main\nfunc main() {{ println("{name}") }}\n')
    (module / "go.mod").write_text("module m\n\ngo 1.25.0\n\ntool (\n\tm/server\n\tm/kubectl\n)\n")
    lines: list[str] = []
    source.build(module, target, "v1.2.3", lines.append)
    assert sorted(path.name for path in target.iterdir()) == ["etcd", "kubectl"]
    said = subprocess.run([target / "etcd"], capture_output=True, text=True, check=True).stderr
    assert said == "server\n"
    assert "GiB of disk" in lines[0]

    (module / "server" / "main.go").write_text("package main\nfunc main() { absent() }\n")
    with pytest.raises(source.BuildError, match="undefined: absent"):
        source.build(module, tmp_path / "other", "v1.2.3", lines.append)


def test_disk_is_needed_until_the_programs_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_CACHE_DIR", str(tmp_path))
    assert binaries.needed_gib() == source.NEEDED_GIB
    binaries.directory().mkdir(parents=True)
    assert binaries.needed_gib() == 0


def test_a_build_on_a_small_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "NEEDED_GIB", 1e6)
    with pytest.raises(
        source.BuildError, match=r"needs 1000000\.0 GiB in .* GiB are free; set BERTH_CACHE_DIR"
    ):
        source.build(tmp_path, tmp_path / "target", "v1.2.3", print)


def test_the_programs_are_made_available() -> None:
    folder = binaries.ensure(print)
    assert all(os.access(folder / program, os.X_OK) for program in binaries.PROGRAMS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(binaries.PROGRAMS)
