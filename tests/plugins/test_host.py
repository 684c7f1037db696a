"""The plugin as a process: how it starts, what it says of itself, and that it ends with its engine."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import metadata
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.plugins.driver import BIN, Plugin, Refused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("package", ["aws", "kubernetes"])
def test_is_found_on_the_path_and_has_the_version_of_its_sdk(package: str) -> None:
    plugin = Plugin(package)
    try:
        assert plugin.info().version == metadata.version(f"pulumi-{package}")
    finally:
        plugin.close()


def test_runs_through_a_link_from_another_folder(tmp_path: Path) -> None:
    link = tmp_path / "pulumi-resource-aws"
    link.symlink_to(BIN / "pulumi-resource-aws")
    process = subprocess.Popen([link], stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
    finally:
        process.kill()
        process.communicate()


def test_ends_when_its_engine_is_killed() -> None:
    script = textwrap.dedent(f"""
        import subprocess, sys
        plugin = subprocess.Popen([{str(BIN / "pulumi-resource-aws")!r}], stdout=subprocess.PIPE)
        plugin.stdout.readline()
        print(plugin.pid, flush=True)
        sys.stdin.read()
    """)
    engine = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert engine.stdout is not None
    plugin = psutil.Process(int(engine.stdout.readline()))
    engine.kill()
    engine.communicate()
    psutil.wait_procs([plugin], timeout=20)
    assert not plugin.is_running()


def test_refuses_to_work_before_it_is_configured() -> None:
    plugin = Plugin("aws")
    try:
        with pytest.raises(Refused, match="not configured"):
            plugin.check("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.0.0.0/16"})
    finally:
        plugin.close()


def test_stops_on_sigterm() -> None:
    plugin = Plugin("aws")
    try:
        plugin.popen.terminate()
        assert plugin.popen.wait(20) == 0
    finally:
        plugin.close()
