"""How promtool is had: built once, kept, and gone on with after an interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox import promtool

if TYPE_CHECKING:
    from pathlib import Path

_GO = """#!/bin/sh
case "$1" in
env) echo {version} ;;
build)
    echo "$GOFLAGS" >> {folder}/builds
    test "$(wc -l < {folder}/builds)" -gt {failures} || {{ echo "dial tcp: i/o timeout"; exit 1; }}
    while [ "$1" != -o ]; do shift; done
    mkdir -p "$2" && echo "#!/bin/sh" > "$2/promtool"
    ;;
esac
"""


def _go(folder: Path, monkeypatch: pytest.MonkeyPatch, *, failures: int = 0) -> None:
    """Put a Go on PATH whose builds fail that many times; the real one takes minutes."""
    program = folder / "bin" / "go"
    program.parent.mkdir()
    program.write_text(_GO.format(version="go1.99.0", folder=folder, failures=failures))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("BERTH_CACHE_DIR", str(folder / "cache"))


def test_it_is_built_once_and_only_the_program_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _go(tmp_path, monkeypatch)
    said: list[str] = []
    program = promtool.ensure(said.append)
    assert program == promtool.path() == promtool.ensure(said.append)
    assert (tmp_path / "builds").read_text().splitlines() == ["-modcacherw -mod=readonly -tags=remove_all_sd"]
    left = {
        path.relative_to(tmp_path / "cache") for path in (tmp_path / "cache").rglob("*") if path.is_file()
    }
    assert {path.name for path in left} <= {"promtool", f"promtool-{promtool.version()}.lock"}
    assert f"promtool {promtool.version()} is ready" in said[-1]


def test_a_download_that_breaks_off_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _go(tmp_path, monkeypatch, failures=1)
    said: list[str] = []
    assert promtool.ensure(said.append).exists()
    assert any("going on shortly" in line for line in said)


def test_a_small_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _go(tmp_path, monkeypatch)
    monkeypatch.setattr(promtool, "NEEDED_GIB", 1e6)
    with pytest.raises(promtool.PromtoolError, match=r"needs 1000000\.0 GiB in .* set BERTH_CACHE_DIR"):
        promtool.ensure(lambda _: None)
    assert not (tmp_path / "builds").exists()
