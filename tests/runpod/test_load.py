"""Many clients at once through the whole queue: job API, worker protocol, the image's door."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.processes import spawn
from sandbox.runpod.limits import JobLimits
from tests.runpod.conftest import KEY, FakeContainer, FakeLauncher, Platform, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.runpod.launcher import Launch

_PROJECT = Path(__file__).resolve().parents[2]


class DoorLauncher(FakeLauncher):
    """Starts the image's entrypoint, and for vLLM `fake_engine.py`, which says back what it is asked."""

    def start(self, launch: Launch) -> FakeContainer:
        self.launches.append(launch)
        tools = launch.directory / "bin"
        tools.mkdir(parents=True)
        engine = _PROJECT / "tests/image/fake_engine.py"
        (tools / "vllm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{engine}" "$@"\n')
        (tools / "vllm").chmod(0o755)
        process = spawn(
            [sys.executable, _PROJECT / "image/entrypoint.py", *(launch.args or ())],
            name=launch.name,
            log_path=launch.log_path,
            env={
                **os.environ,
                **launch.env,
                "PATH": f"{tools}:{os.environ['PATH']}",
                "HOME": str(launch.directory),
                "BERTH_DOOR_PYTHON": sys.executable,
                "BERTH_HOST": launch.address,
                "BERTH_TERMINATION_LOG": str(launch.directory / "termination-log"),
            },
        )
        self.running.append(FakeContainer(process, launch.directory))
        return self.running[-1]

    def asked(self) -> Counter[str]:
        """Return how often the engines were asked each prompt."""
        prompts: Counter[str] = Counter()
        for launch in self.launches:
            seen = httpx.get(f"http://{launch.address}:8000/_seen", trust_env=False).json()
            prompts.update(request["body"]["prompt"] for request in seen["requests"] if request["body"])
        return prompts


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[tuple[Platform, DoorLauncher]]:
    limits = JobLimits(poll_seconds=1.0, rates={})  # the platform's rates are for one client, not for load
    launcher = DoorLauncher()
    platform = start_platform(tmp_path / "runpod", job_limits=limits, launcher=launcher)
    platform.delegate()
    yield platform, launcher
    platform.cloud.stop()
    assert [container.poll() for container in launcher.running].count(None) == 0


@pytest.fixture(autouse=True)
def _open_files() -> Iterator[None]:
    """Allow this process two connections for each client: the platform is in it, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _client(http: httpx.AsyncClient, number: int) -> dict[str, Any]:
    job = {"input": {"prompt": f"client {number}", "max_tokens": 8}}
    return dict((await http.post("runsync", json=job)).raise_for_status().json())


async def _load(url: str, clients: int) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {KEY}"},
        limits=httpx.Limits(max_connections=None),
        timeout=60.0,
        trust_env=False,
    ) as http:
        return await asyncio.gather(*(_client(http, number) for number in range(clients)))


@pytest.mark.parametrize("clients", [10, 100, 1000])
def test_no_job_is_lost_and_none_is_done_twice(doors: tuple[Platform, DoorLauncher], clients: int) -> None:
    platform, launcher = doors
    made = platform.create_queue(
        args="the-model --max-num-seqs 64",
        env={"BERTH_DOOR": "queue", "BERTH_TASK": "generate"},
        workers={"min": 2, "max": 2, "idleTimeout": 60},
    )
    wait_until(lambda: platform.states(made) == ["IDLE", "IDLE"], "two workers take jobs", 60)
    answers = asyncio.run(_load(made["requestUrls"]["run"].removesuffix("/run"), clients))
    assert {answer["status"] for answer in answers} == {"COMPLETED"}
    assert [answer["output"]["response"].strip() for answer in answers] == [
        f"client {number}" for number in range(clients)
    ]
    assert launcher.asked() == Counter(f"client {number}" for number in range(clients))
    with platform.jobs(made) as jobs:
        counts = jobs.get("health").json()["jobs"]
    assert counts == {"completed": clients, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0}
