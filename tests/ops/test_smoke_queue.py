"""`berth smoke` on a queue of the sandbox's RunPod, from no worker to streamed answers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.processes import spawn
from sandbox.runpod.cloud import RunpodCloud
from tests.blocks import free_block
from tests.ops.runpod_platform import Deployed
from tests.runpod.conftest import (
    KEY,
    POLICY,
    FakeContainer,
    FakeLauncher,
    FakeRegistry,
    Platform,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.runpod.launcher import Launch
    from tests.ops.conftest import Project


class _Launcher(FakeLauncher):
    """Starts `openai_worker.py`."""

    def start(self, launch: Launch) -> FakeContainer:
        launch.directory.mkdir(parents=True, exist_ok=True)
        process = spawn(
            [sys.executable, Path(__file__).with_name("openai_worker.py"), *(launch.args or ())],
            name=launch.name,
            log_path=launch.log_path,
            env={**os.environ, **launch.env, "HOME": str(launch.directory)},
        )
        self.running.append(FakeContainer(process, launch.directory))
        return self.running[-1]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    launcher, registry = _Launcher(), FakeRegistry(json.dumps(POLICY))
    cloud = RunpodCloud(
        key=KEY, directory=tmp_path / "runpod", launcher=launcher, images=registry, block=free_block()
    ).start()
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=cloud.endpoint, headers=headers, trust_env=False) as api:
        platform = Platform(cloud, launcher, registry, api)
        platform.delegate()
        yield platform
    cloud.stop()
    assert launcher.alive() == 0


def _deployed(programs: Project, platform: Platform, **changes: Any) -> Deployed:
    scaling = {"type": "QUEUE_DELAY", "queueDelay": 1}
    made = platform.create(type="QUEUE", scaling=scaling, env={}, ports=[], **changes)
    return Deployed(programs, platform, made)


def test_a_queue_without_a_worker_is_waited_for_and_does_its_job(
    programs: Project, platform: Platform
) -> None:
    deployed = _deployed(programs, platform)
    [report] = json.loads(deployed.berth("smoke", "--json").stdout)["endpoints"]
    assert report["ok"]
    assert [check["name"] for check in report["checks"]] == [
        "answer",
        "streamed answer",
        "completion",
        "refused without a key",
        "refused with a wrong key",
    ]
    assert report["checks"][1]["completion_tokens"] == 3


def test_one_that_gets_no_worker_is_given_up_and_leaves_no_job(programs: Project, platform: Platform) -> None:
    deployed = _deployed(programs, platform, workers={"min": 0, "max": 0})
    said = deployed.berth("smoke", "--timeout", "1", exit_status=1).stderr
    assert "not ready in 1 s: the first job waits in the queue; workers: none yet" in said
    assert json.loads(deployed.berth("jobs", "--json").stdout)["jobs"]["inQueue"] == 0


def test_one_whose_first_job_fails_is_given_up_with_its_error(programs: Project, platform: Platform) -> None:
    deployed = _deployed(programs, platform, args="--broken")
    said = deployed.berth("smoke", exit_status=1).stderr
    assert "the first job is FAILED: the engine is dead" in said


def test_a_wrong_key_is_said_without_waiting(programs: Project, platform: Platform) -> None:
    deployed = _deployed(programs, platform)
    assert "refuses the key (HTTP 401)" in deployed.berth("smoke", exit_status=1, key="rpa_wrong").stderr


def test_up_tells_how_to_ask_the_queue_and_where_its_console_is(
    programs: Project, platform: Platform
) -> None:
    deployed = _deployed(programs, platform)
    said = deployed.berth("up", "--yes").stdout
    base = deployed.endpoint["requestUrls"]["run"].removesuffix("/run")
    assert f"curl {base}/openai/v1/chat/completions" in said
    assert f"https://console.runpod.io/serverless/user/endpoint/{deployed.endpoint['id']}" in said
