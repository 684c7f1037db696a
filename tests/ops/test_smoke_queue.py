"""`berth smoke` and `berth load` on a queue of the sandbox's RunPod, from no worker to answers."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ops import records
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
    wait_until,
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
    said = deployed.berth("up", "--yes", "--no-smoke").stdout
    base = deployed.endpoint["requestUrls"]["run"].removesuffix("/run")
    assert f"curl {base}/openai/v1/chat/completions" in said
    assert f"https://console.runpod.io/serverless/user/endpoint/{deployed.endpoint['id']}" in said


def test_load_sends_jobs_and_leaves_none_when_it_is_interrupted(
    programs: Project, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "results")
    deployed = _deployed(programs, platform)
    base = deployed.endpoint["requestUrls"]["run"].removesuffix("/run")
    key = {"Authorization": f"Bearer {KEY}"}

    def ask(path: str) -> Any:
        return httpx.get(f"{base}/{path}", headers=key, trust_env=False).json()

    def interrupt() -> None:
        wait_until(lambda: ask("health")["jobs"]["completed"] > 10, "jobs are done", 60)
        wait_until(lambda: ask("health")["jobs"]["inQueue"] > 0, "jobs wait", 60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    users = ("--users", "30", "--ramp", "0", "--seconds", "300", "--mix", "short")
    said = deployed.berth("load", "--yes", *users, exit_status=130)
    assert "queue, by /run and /status" in said.stdout
    [record] = records.kept("dev", "load")
    [row] = record.document["requests"]
    assert (row["kind"], row["failed"], row["first_token_ms"]) == ("chat, short", 0, None)
    assert row["requests"] > 0
    assert row["completion_tokens"] == 3 * row["requests"]
    assert [engine["engine"] for engine in record.document["engines"]] == ["the queue"]
    states = {job["status"] for job in ask("requests")["requests"]}
    assert "CANCELLED" in states
    assert not states & {"IN_QUEUE", "IN_PROGRESS", "FAILED"}
