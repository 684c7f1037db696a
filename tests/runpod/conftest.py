"""The platform on a free loopback block, with containers that are small Python processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.processes import Process, spawn
from sandbox.runpod.cloud import RunpodCloud
from sandbox.runpod.launcher import LaunchError
from sandbox.runpod.pool import Limits
from sandbox.runpod.registry import PULL_ACTIONS, PULL_ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.runpod.launcher import Launch
    from sandbox.runpod.registry import Repository

KEY = "rpa_test_0123456789"
ACCOUNT = "123456789012"
REPOSITORY_ARN = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/berth/vllm"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/berth/vllm"
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
IMAGE = f"{REPOSITORY}@{DIGEST}"
OTHER_IMAGE = f"{REPOSITORY}@{OTHER_DIGEST}"
POLICY: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": list(PULL_ACTIONS),
            "Condition": {"StringEquals": {"aws:PrincipalArn": list(PULL_ROLES)}},
        }
    ],
}


@dataclass
class FakeRegistry:
    """An ECR with one repository, and more if a test adds them."""

    policy_text: str | None
    repositories: set[str] = field(default_factory=lambda: {"berth/vllm"})
    digests: set[str] = field(default_factory=lambda: {DIGEST, OTHER_DIGEST})

    def policy(self, repository: Repository) -> str | None:
        return self.policy_text if repository.name in self.repositories else None

    def has_image(self, repository: Repository, *, tag: str | None, digest: str | None) -> bool:
        return repository.name == "berth/vllm" and (digest in self.digests or tag == "v1")


@dataclass(frozen=True)
class FakeContainer:
    process: Process
    directory: Path

    def poll(self) -> int | None:
        return self.process.popen.poll()

    def stop(self, grace_seconds: float = 5.0) -> int:
        return self.process.stop(grace_seconds)

    def remove(self) -> None:
        shutil.rmtree(self.directory)


@dataclass
class FakeLauncher:
    """Starts `fake_container.py`, and remembers every start."""

    launches: list[Launch] = field(default_factory=list)
    running: list[FakeContainer] = field(default_factory=list)
    refusal: str | None = None

    def start(self, launch: Launch) -> FakeContainer:
        self.launches.append(launch)
        if self.refusal:
            raise LaunchError(self.refusal)
        launch.directory.mkdir(parents=True, exist_ok=True)
        process = spawn(
            [sys.executable, Path(__file__).with_name("fake_container.py"), *(launch.args or ())],
            name=launch.name,
            log_path=launch.log_path,
            env={**os.environ, **launch.env, "BERTH_HOST": launch.address, "HOME": str(launch.directory)},
        )
        self.running.append(FakeContainer(process, launch.directory))
        return self.running[-1]

    def alive(self) -> int:
        return sum(container.poll() is None for container in self.running)


@dataclass(frozen=True)
class Platform:
    """A running platform and a client of it."""

    cloud: RunpodCloud
    launcher: FakeLauncher
    registry: FakeRegistry
    api: httpx.Client

    def delegate(self) -> dict[str, Any]:
        response = self.api.post("/registries/delegations", json={"resource": REPOSITORY_ARN})
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    def create(self, **changes: Any) -> dict[str, Any]:
        response = self.api.post("/serverless", json=body(**changes))
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    def workers(self, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/serverless/{endpoint['id']}/workers").json()["workers"]
        return found

    def edge(self, endpoint: dict[str, Any], **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(
            base_url=endpoint["requestUrls"]["base"], headers=headers, timeout=30, trust_env=False, **options
        )

    def fault(self, method: str, path: str, kind: str, **options: Any) -> None:
        response = httpx.post(
            f"{self.cloud.base_url}/_sandbox/faults",
            headers={"x-sandbox-secret": self.cloud.admin_secret},
            json={"method": method, "path": path, "kind": kind, **options},
            trust_env=False,
        )
        assert response.status_code == 200, response.text


def body(**changes: Any) -> dict[str, Any]:
    """Return the body of a small load-balancer endpoint; a change to None leaves a field out."""
    whole = {
        "name": "llm",
        "type": "LOAD_BALANCER",
        "image": IMAGE,
        "args": "model --max-model-len 2048",
        "env": {"PORT": "8000", "PORT_HEALTH": "8001", "HEALTH_CHECK_PATH": "/ping"},
        "ports": ["8000/http", "8001/http"],
        "gpu": {"pools": ["AMPERE_24"], "count": 1, "minCudaVersion": "12.8"},
        "workers": {"min": 0, "max": 1, "idleTimeout": 60},
        "scaling": {"type": "REQUEST_COUNT", "requestCount": 4},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def free_block() -> int:
    while True:
        block = random.randrange(100, 240)
        with contextlib.suppress(OSError), socket.create_server((f"127.{block}.0.2", 4567)):
            return block


def start_platform(directory: Path, *, block: int | None = None, **limits: Any) -> Platform:
    launcher, registry = FakeLauncher(), FakeRegistry(json.dumps(POLICY))
    cloud = RunpodCloud(
        key=KEY,
        directory=directory,
        launcher=launcher,
        images=registry,
        block=free_block() if block is None else block,
        limits=Limits(**limits),
    ).start()
    api = httpx.Client(
        base_url=cloud.endpoint, headers={"Authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False
    )
    return Platform(cloud, launcher, registry, api)


@pytest.fixture
def bare_platform(tmp_path: Path) -> Iterator[Platform]:
    platform = start_platform(tmp_path / "runpod", wait_seconds=10.0)
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


@pytest.fixture
def platform(bare_platform: Platform) -> Platform:
    bare_platform.delegate()
    return bare_platform
