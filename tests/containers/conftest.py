"""What the tests of images and containers share: a registry, a fake `vllm`, and a wait for conditions."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.images import ImageStore
from tests.containers.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[2]
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth"


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def random_address() -> str:
    """Return a loopback address that no other test is likely to have at the same time."""
    return ".".join(map(str, (127, *random.sample(range(100, 240), 3))))


def free_port(address: str) -> int:
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def address() -> str:
    return random_address()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    server = Registry()
    monkeypatch.setenv("BERTH_SANDBOX_REGISTRY", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield server
    server.shutdown()
    server.server_close()


class Docker:
    """The sandbox's docker command, run as a buildspec runs it."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self._environment = {
            **os.environ,
            "DOCKER_CONFIG": str(folder),
            "BERTH_SANDBOX_REGISTRY": registry.url,
        }

    def __call__(self, *arguments: str, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sandbox.docker", *arguments]
        result = subprocess.run(
            argv, input=stdin, env=self._environment, cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, result.stderr
        return result

    def push(self, context: Path) -> str:
        """Build and push a folder's image; return its name by digest."""
        host = REPOSITORY.partition("/")[0]
        self("login", "--username", "AWS", "--password-stdin", host, stdin="a-token")
        self(
            "build", "--platform", "linux/amd64", "--provenance=false", "-t", f"{REPOSITORY}:t", str(context)
        )
        self("push", f"{REPOSITORY}:t")
        return self("inspect", "--format", "{{index .RepoDigests 0}}", f"{REPOSITORY}:t").stdout.strip()


@pytest.fixture
def docker(tmp_path: Path, registry: Registry) -> Docker:
    return Docker(tmp_path / "docker", registry)


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake `vllm`, and this Python, where containers look for vLLM's environment."""
    folder = tmp_path / "vllm-bin"
    folder.mkdir()
    command = folder / "vllm"
    command.write_text(f"#!{sys.executable}\n" + (PROJECT / "tests/containers/fake_vllm.py").read_text())
    command.chmod(0o755)
    (folder / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("BERTH_SANDBOX_VLLM", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path, registry: Registry) -> ImageStore:
    return ImageStore(tmp_path / "images", registry.url)


@pytest.fixture
def image_context(tmp_path: Path) -> Path:
    """A copy of the project's image folder."""
    return Path(shutil.copytree(PROJECT / "image", tmp_path / "context"))


@pytest.fixture(scope="session")
def pushed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """Build and push the project's image, once for all tests."""
    server = Registry()
    yield server, Docker(tmp_path_factory.mktemp("docker"), server).push(PROJECT / "image")
    server.shutdown()
    server.server_close()


@pytest.fixture
def pushed(registry: Registry, pushed_once: tuple[Registry, str]) -> str:
    """Have the project's image in the test's own registry; return its name by digest."""
    template, name = pushed_once
    registry.blobs.update(template.blobs)
    registry.manifests.update(template.manifests)
    return name
