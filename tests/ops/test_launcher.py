"""The launcher in fresh copies of the project, with real environments: one whole, the others small."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.bootstrap import pinned
from tests.ops.conftest import ROOT, copy_project

_UV_ON_PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
_MADE = "berth: .venv is ready"


def _berth(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(root / "berth"), *arguments],
        cwd="/",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _lock(*packages: str) -> str:
    whole = (ROOT / "requirements.lock").read_text()
    return "".join(pinned(package, whole) for package in packages)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A copy whose lock has two packages and whose command says only that it runs."""
    root = copy_project(tmp_path / "berth")
    (root / "requirements.lock").write_text(_lock("iniconfig", "uv"))
    (root / "ops" / "__main__.py").write_text("print('Usage: berth')\n")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which `berth` has been run once, from another folder, with no uv but the one of the lock."""
    root = copy_project(tmp_path_factory.mktemp("made") / "with space" / "berth")
    folders = [
        folder for folder in os.environ["PATH"].split(":") if folder and not (Path(folder) / "uv").exists()
    ]
    first = _berth(root, "--help", PATH=":".join(folders))
    assert first.returncode == 0, first.stderr
    assert "Usage: berth" in first.stdout
    assert "first use in this folder" in first.stderr
    assert "installing uv into it" in first.stderr
    assert _MADE in first.stderr
    return root


def test_the_first_run_installs_the_lock_and_makes_the_project_importable(made: Path) -> None:
    locked = set(re.findall(r"^(\S+)==(\S+)", (made / "requirements.lock").read_text(), re.MULTILINE))
    listed = subprocess.run(
        [made / ".venv/bin/python", "-m", "pip", "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    installed = {
        (re.sub(r"[-_.]+", "-", name).lower(), version)
        for name, version in re.findall(r"(\S+)==(\S+)", listed)
        if name != "setuptools"  # Python 3.11's venv brings one, and uv leaves it
    }
    assert installed <= {(name.lower(), version) for name, version in locked}
    assert {"pulumi", "pip", "uv", "pytest"} <= {name for name, _ in installed}
    where = subprocess.run(
        [made / ".venv/bin/python", "-c", "import ops, infra, sandbox; print(ops.__file__)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(where.strip()) == made / "ops" / "__init__.py"


def test_the_second_run_installs_nothing_and_asks_no_index(made: Path) -> None:
    before = (made / ".venv/.berth").stat().st_mtime_ns
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    second = _berth(made, "--help", **nowhere)
    assert second.returncode == 0
    assert second.stderr == ""
    assert (made / ".venv/.berth").stat().st_mtime_ns == before


def test_it_works_by_a_link_from_another_folder_and_as_the_command_of_the_environment(
    made: Path, tmp_path: Path
) -> None:
    (tmp_path / "b").symlink_to(made / "berth")
    for command in (tmp_path / "b", made / ".venv/bin/berth"):
        done = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


def test_the_launcher_adds_little_to_the_command(made: Path) -> None:
    def processor_seconds(*command: str | Path) -> float:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        return usage.ru_utime + usage.ru_stime

    # The time of the processor, not of the clock: other tests run beside this one.
    (made / "quick").write_text((made / "berth").read_text().replace("-P -m ops", "-c pass"))
    (made / "quick").chmod(0o755)
    alone = min(processor_seconds(made / ".venv/bin/python", "-c", "pass") for _ in range(5))
    assert min(processor_seconds(made / "quick") for _ in range(5)) - alone < 0.05


def test_a_changed_lock_is_installed_by_the_next_run(small: Path) -> None:
    assert _berth(small, **_UV_ON_PATH).returncode == 0
    assert not list(small.glob(".venv/lib/python3*/site-packages/execnet"))
    (small / "requirements.lock").write_text(_lock("execnet", "uv"))
    changed = _berth(small, **_UV_ON_PATH)
    assert changed.returncode == 0, changed.stderr
    assert "requirements.lock has changed" in changed.stderr
    assert list(small.glob(".venv/lib/python3*/site-packages/execnet"))
    assert not list(small.glob(".venv/lib/python3*/site-packages/iniconfig"))
    assert _berth(small, **_UV_ON_PATH).stderr == ""


def test_a_wrong_hash_is_refused_and_the_environment_does_not_count_as_made(small: Path) -> None:
    lock = small / "requirements.lock"
    right = lock.read_text()
    lock.write_text(re.sub(r"sha256:\w+", f"sha256:{'0' * 64}", right))
    refused = _berth(small, UV_NO_CACHE="1", **_UV_ON_PATH)
    assert refused.returncode == 1
    assert "hash" in refused.stderr.lower()
    assert "installing requirements.lock failed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (small / ".venv/.berth").exists()
    lock.write_text(right)
    assert _berth(small, **_UV_ON_PATH).returncode == 0


def test_a_folder_that_was_moved_gets_its_environment_anew(small: Path, tmp_path: Path) -> None:
    assert _berth(small, **_UV_ON_PATH).returncode == 0
    moved = small.rename(tmp_path / "after")
    done = _berth(moved, **_UV_ON_PATH)
    assert done.returncode == 0, done.stderr
    assert "first use in this folder" in done.stderr
    assert (moved / ".venv/.berth/home").read_text() == f"{moved}\n"


def test_a_first_run_that_was_killed_is_finished_by_the_next(small: Path) -> None:
    first = subprocess.Popen(
        [small / "berth"],
        env={**os.environ, **_UV_ON_PATH},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (small / ".venv/pyvenv.cfg").exists():
        assert first.poll() is None
        time.sleep(0.001)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() != 0
    assert not (small / ".venv/.berth").exists()
    done = _berth(small, **_UV_ON_PATH)
    assert done.returncode == 0, done.stderr
    assert _MADE in done.stderr
    assert done.stdout == "Usage: berth\n"


def test_two_first_runs_at_once_make_one_environment(small: Path) -> None:
    both = [
        subprocess.Popen(
            [small / "berth"],
            env={**os.environ, **_UV_ON_PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [out for out, _ in said] == ["Usage: berth\n"] * 2
    assert sum(err.count(_MADE) for _, err in said) == 1


def test_ctrl_c_during_the_first_run_is_said_and_ends_with_130(small: Path) -> None:
    process = subprocess.Popen(
        [small / "berth"],
        env={**os.environ, **_UV_ON_PATH},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert "first use" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() in {130, -signal.SIGINT}, rest
    assert "berth: interrupted" in rest
    assert "Traceback" not in rest


def test_a_python_that_is_too_old_is_said_in_one_line(small: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (old / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
        (old / name).chmod(0o755)
    done = _berth(small, PATH=f"{old}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer, and 'python3' is Python 3.9.2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_python_without_venv_is_said_with_what_to_install(small: Path, tmp_path: Path) -> None:
    (tmp_path / "modules/venv").mkdir(parents=True)
    (tmp_path / "modules/venv/__init__.py").touch()
    (tmp_path / "modules/venv/__main__.py").write_text(
        "print('The virtual environment was not created: ensurepip is not available.')\nraise SystemExit(1)\n"
    )
    without_uv = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()
    )
    done = _berth(small, PYTHONPATH=str(tmp_path / "modules"), PATH=without_uv)
    assert done.returncode == 1
    assert "cannot make a virtual environment" in done.stderr
    assert "ensurepip is not available" in done.stderr
    assert "-venv), or put uv on PATH" in done.stderr
    assert "Traceback" not in done.stderr
