"""`berth jobs` against the sandbox's queue, whose jobs the real SDK's worker takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.ops.runpod_platform import Deployed
from tests.runpod.conftest import KEY, wait_until

if TYPE_CHECKING:
    from tests.ops.conftest import Project
    from tests.runpod.conftest import Platform

_NO_PORTS: dict[str, Any] = {"env": {}, "ports": []}
_IDLE = {"min": 0, "max": 0}
_ONE = {"min": 1, "max": 1, "idleTimeout": 60}
_BY_DELAY = {"type": "QUEUE_DELAY", "queueDelay": 1}


def _deployed(programs: Project, runpod: Platform, workers: dict[str, int]) -> Deployed:
    made = runpod.create(type="QUEUE", workers=workers, scaling=_BY_DELAY, **_NO_PORTS)
    return Deployed(programs, runpod, made)


@pytest.fixture
def waiting(programs: Project, runpod: Platform) -> Deployed:
    """A queue that no worker empties."""
    return _deployed(programs, runpod, _IDLE)


@pytest.fixture
def working(programs: Project, runpod: Platform) -> Deployed:
    """A queue with a worker."""
    return _deployed(programs, runpod, _ONE)


def _submit(deployed: Deployed, **job: Any) -> str:
    answer = httpx.post(
        deployed.endpoint["requestUrls"]["run"],
        headers={"Authorization": f"Bearer {KEY}"},
        json={"input": job},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def _is(deployed: Deployed, job: str, state: str) -> bool:
    url = deployed.endpoint["requestUrls"]["status"].format(job_id=job)
    answer = httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    return bool(answer.json()["status"] == state)


def test_the_queue_is_counted(waiting: Deployed) -> None:
    for number in range(2):
        _submit(waiting, do="echo", number=number)
    said = waiting.berth("jobs").stdout
    assert [line.split() for line in said.splitlines()] == [
        ["queued", "2"],
        ["in", "progress", "0"],
        ["completed", "0"],
        ["failed", "0"],
        ["retried", "0"],
        ["workers", "none"],
    ]
    assert json.loads(waiting.berth("jobs", "--json").stdout)["jobs"]["inQueue"] == 2


def test_a_job_is_shown_with_its_output(working: Deployed) -> None:
    job = _submit(working, do="echo", text="hello")
    wait_until(lambda: _is(working, job, "COMPLETED"), "the job is done", 30)
    said = working.berth("jobs", "status", job).stdout
    assert "COMPLETED" in said
    assert '"text": "hello"' in said
    assert json.loads(working.berth("jobs", "status", job, "--json").stdout)["output"]["text"] == "hello"


def test_a_failed_job_is_shown_with_its_error_and_can_be_put_back(working: Deployed) -> None:
    job = _submit(working, do="raise", text="no such ship")
    wait_until(lambda: _is(working, job, "FAILED"), "the job fails", 30)
    said = working.berth("jobs", "status", job, exit_status=1).stdout
    assert "FAILED" in said
    assert "no such ship" in said
    assert "IN_QUEUE" in working.berth("jobs", "retry", job).stdout
    wait_until(lambda: _is(working, job, "FAILED"), "the job fails again", 30)
    assert json.loads(working.berth("jobs", "--json").stdout)["jobs"]["retried"] == 1


def test_a_job_that_waits_can_be_cancelled_and_not_be_retried(waiting: Deployed) -> None:
    job = _submit(waiting, do="echo")
    assert json.loads(waiting.berth("jobs", "cancel", job, "--json").stdout)["status"] == "CANCELLED"
    assert "CANCELLED" in waiting.berth("jobs", "status", job, exit_status=1).stdout
    assert f"cannot retry the job {job}" in waiting.berth("jobs", "retry", job, exit_status=1).stderr


def test_the_queue_is_purged_only_with_consent(waiting: Deployed) -> None:
    for _ in range(3):
        _submit(waiting, do="echo")
    assert "add --yes" in waiting.berth("jobs", "purge", exit_status=2).stderr
    assert json.loads(waiting.berth("jobs", "--json").stdout)["jobs"]["inQueue"] == 3
    assert waiting.berth("jobs", "purge", "--yes").stdout == "3 jobs were taken out of the queue.\n"
    assert json.loads(waiting.berth("jobs", "--json").stdout)["jobs"]["inQueue"] == 0


def test_options_may_stand_before_the_subcommand(waiting: Deployed) -> None:
    job = _submit(waiting, do="echo")
    said = waiting.typed("jobs", "--stack", "dev", "--json", "status", job).stdout
    assert json.loads(said)["status"] == "IN_QUEUE"
    assert "--stack is missing" in waiting.typed("jobs", exit_status=2).stderr


def test_a_job_that_is_not_there_is_said_with_how_long_one_is(waiting: Deployed) -> None:
    for verb in ("status", "cancel", "retry"):
        said = waiting.berth("jobs", verb, "../health", exit_status=1).stderr
        assert "the queue has no job ../health: RunPod forgets a job 30 minutes after its end" in said


def test_a_load_balancer_is_said_to_have_no_queue(programs: Project, runpod: Platform) -> None:
    deployed = Deployed(programs, runpod, runpod.create())
    for arguments in ([], ["status", "j"], ["purge", "--yes"]):
        said = deployed.berth("jobs", *arguments, exit_status=1).stderr
        assert "has no queue: its endpoint_type is LOAD_BALANCER" in said


def test_a_wrong_key_is_refused(waiting: Deployed) -> None:
    said = waiting.berth("jobs", exit_status=1, key="rpa_of_somebody_else").stderr
    assert "401" in said
    assert "RUNPOD_API_KEY" in said


def test_a_queue_that_is_gone_is_said(waiting: Deployed) -> None:
    waiting.platform.api.delete(f"/serverless/{waiting.endpoint['id']}")
    assert "endpoint not found" in waiting.berth("jobs", exit_status=1).stderr
