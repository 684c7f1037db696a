"""The platform on a free loopback block, with containers that are small Python processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
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
from sandbox.runpod.limits import JobLimits, Limits
from sandbox.runpod.problems import Problem
from sandbox.runpod.registry import PULL_ACTIONS, PULL_ROLES
from tests.blocks import free_block
from tests.runpod.silent_worker import SilentWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.runpod.launcher import Launch
    from sandbox.runpod.registry import Login, Repository

KEY = "rpa_test_0123456789"
TOKEN = "1795000000.ecr-token"
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

    def has_image(
        self, repository: Repository, *, tag: str | None, digest: str | None, login: Login | None = None
    ) -> bool:
        if login is not None and (login.username, login.password) != ("AWS", TOKEN):
            raise Problem(422, "pull access denied: the credential is wrong")
        return repository.name == "berth/vllm" and (digest in self.digests or tag == "v1")


@dataclass(frozen=True)
class FakeContainer:
    process: Process
    directory: Path

    def poll(self) -> int | None:
        return self.process.popen.poll()

    def stop(self, grace_seconds: float = 5.0) -> int:
        return self.process.stop(grace_seconds)

    def kill(self) -> int:
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.popen.wait()

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)  # a removal that was interrupted is repeated


@dataclass
class FakeLauncher:
    """Starts `fake_container.py`, or for a queue `queue_worker.py`, and remembers every start."""

    launches: list[Launch] = field(default_factory=list)
    running: list[FakeContainer] = field(default_factory=list)
    refusal: str | None = None

    def start(self, launch: Launch) -> FakeContainer:
        self.launches.append(launch)
        if self.refusal:
            raise LaunchError(self.refusal)
        launch.directory.mkdir(parents=True, exist_ok=True)
        script = "queue_worker.py" if "RUNPOD_WEBHOOK_GET_JOB" in launch.env else "fake_container.py"
        process = spawn(
            [sys.executable, Path(__file__).with_name(script), *(launch.args or ())],
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

    def create_queue(self, **changes: Any) -> dict[str, Any]:
        return self.create(**{**QUEUE, **changes})

    def jobs(self, endpoint: dict[str, Any], **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{self.cloud.jobs}/{endpoint['id']}"
        return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False, **options)

    def silent_workers(self, endpoint: dict[str, Any], count: int) -> list[SilentWorker]:
        """Return the workers that an endpoint has had, once they are so many, the oldest first."""

        def started() -> list[Launch]:
            names = {container.process.name for container in self.launcher.running}
            return [
                launch
                for launch in self.launcher.launches
                if launch.env["RUNPOD_ENDPOINT_ID"] == endpoint["id"] and launch.name in names
            ]

        wait_until(lambda: len(started()) >= count, f"{count} workers are started")
        return [SilentWorker(launch) for launch in started()]

    def silent_worker(self, endpoint: dict[str, Any]) -> SilentWorker:
        """Return the newest worker of an endpoint, once there is one."""
        return self.silent_workers(endpoint, 1)[-1]

    def states(self, endpoint: dict[str, Any]) -> list[str]:
        return sorted(worker["status"] for worker in self.workers(endpoint))

    def workers(self, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/serverless/{endpoint['id']}/workers").json()["workers"]
        return found

    def edge(self, endpoint: dict[str, Any], **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(
            base_url=endpoint["requestUrls"]["base"], headers=headers, timeout=30, trust_env=False, **options
        )

    def fault(self, method: str, path: str, kind: str, **options: Any) -> None:
        self._post_fault({"method": method, "path": path, "kind": kind, **options})

    def worker_fault(self, endpoint: dict[str, Any], kind: str, **options: Any) -> None:
        self._post_fault({"endpoint": endpoint["id"], "kind": kind, **options})

    def clear(self) -> None:
        """Delete all that a test has made, for the next one."""
        self.forget_faults()
        for path, name in (
            ("/serverless", "endpoints"),
            ("/network-volumes", "networkVolumes"),
            ("/registries/delegations", "delegations"),
            ("/registries", "registries"),
        ):
            for item in self.api.get(path).json()[name]:
                assert self.api.delete(f"{path}/{item['id']}").status_code == 204
        assert self.launcher.alive() == 0
        vars(self.launcher).update(vars(type(self.launcher)()))
        vars(self.registry).update(vars(FakeRegistry(json.dumps(POLICY))))

    def forget_faults(self) -> None:
        assert self.admin.delete("/faults").status_code == 200

    @property
    def admin(self) -> httpx.Client:
        headers = {"x-sandbox-secret": self.cloud.admin_secret}
        return httpx.Client(base_url=f"{self.cloud.base_url}/_sandbox", headers=headers, trust_env=False)

    def _post_fault(self, fault: dict[str, Any]) -> None:
        response = self.admin.post("/faults", json=fault)
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


QUEUE: dict[str, Any] = {
    "type": "QUEUE",
    "args": "silent",
    "env": {},
    "ports": [],
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 1},
    "workers": {"min": 0, "max": 1, "idleTimeout": 60},
}
"""What makes of the small endpoint one with a queue, whose workers leave the worker protocol to the test."""

NO_WORKERS = {"min": 0, "max": 0}
ECHO = {"input": {"do": "echo"}}


def run_job(jobs: httpx.Client, **changes: Any) -> str:
    answer = jobs.post("/run", json={**ECHO, **changes})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "IN_QUEUE"
    return str(answer.json()["id"])


def job_status(jobs: httpx.Client, job_id: str) -> dict[str, Any]:
    document: dict[str, Any] = jobs.get(f"/status/{job_id}").json()
    return document


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def start_platform(
    directory: Path,
    *,
    block: int | None = None,
    job_limits: JobLimits | None = None,
    rate_limits: dict[str, int] | None = None,
    speed: float = 1.0,
    launcher: FakeLauncher | None = None,
    **limits: Any,
) -> Platform:
    launcher, registry = launcher or FakeLauncher(), FakeRegistry(json.dumps(POLICY))
    cloud = RunpodCloud(
        key=KEY,
        directory=directory,
        launcher=launcher,
        images=registry,
        block=free_block() if block is None else block,
        limits=Limits(**limits),
        job_limits=job_limits,
        rate_limits=rate_limits,
        speed=speed,
    ).start()
    api = httpx.Client(
        base_url=cloud.endpoint, headers={"Authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False
    )
    return Platform(cloud, launcher, registry, api)


@pytest.fixture(scope="module")
def module_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield the platform that the tests of a module have one after the other."""
    directory = tmp_path_factory.mktemp("module") / "runpod"
    platform = start_platform(directory, wait_seconds=10.0, job_limits=JobLimits(poll_seconds=0.5))
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


@pytest.fixture
def bare_platform(module_platform: Platform) -> Iterator[Platform]:
    """Yield a platform on which nothing has been made."""
    yield module_platform
    module_platform.clear()


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Platform]:
    """Yield a platform that has never been asked, in the folder `runpod`; the test may stop it."""
    platform = start_platform(tmp_path / "runpod")
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


@pytest.fixture
def platform(bare_platform: Platform) -> Platform:
    bare_platform.delegate()
    return bare_platform


@pytest.fixture
def fast_platform(tmp_path: Path) -> Iterator[Platform]:
    """Yield a platform on which a minute passes in less than a second."""
    platform = start_platform(tmp_path / "runpod", speed=100.0)
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0
