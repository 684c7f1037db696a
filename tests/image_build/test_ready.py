"""Where images cannot be built for real, it is said why, and nothing is waited for."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from sandbox import buildah

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of the right kind, with nothing on PATH and nothing in the cache."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BERTH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def _refusal(*, install: bool) -> str:
    with pytest.raises(buildah.UnavailableError) as caught:
        buildah.ready(lambda _: None, install=install)
    return str(caught.value)


def test_other_machines_are_told_apart(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert debian
    assert "buildah is not installed" in _refusal(install=False)
    assert "`apt-get` cannot be started" in _refusal(install=True)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "noble"})
    assert "Debian's bookworm" in _refusal(install=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "need root" in _refusal(install=True)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("echo 'E: Unable to fetch some archives' >&2; exit 100", "failed: E: Unable to fetch some archives"),
        ("exec /bin/sleep 60", "did not end within 2 s"),
    ],
)
def test_a_mirror_that_fails_or_hangs_is_given_up(
    debian: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    monkeypatch.setattr(buildah, "_STEP_SECONDS", 2)
    (debian / "apt-get").write_text(f"#!/bin/sh\n{program}\n")
    (debian / "apt-get").chmod(0o755)
    assert words in _refusal(install=True)
