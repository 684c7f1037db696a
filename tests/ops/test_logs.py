"""`berth logs` against the sandbox's RunPod: what is there, and what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ops.runpod_platform import Deployed, breakable
from tests.runpod.conftest import wait_until

if TYPE_CHECKING:
    from tests.ops.conftest import Project
    from tests.runpod.conftest import Platform


@pytest.fixture
def deployed(programs: Project, runpod: Platform) -> Deployed:
    two = {"min": 2, "max": 2, "idleTimeout": 60}
    deployed = Deployed(programs, runpod, runpod.create(workers=two))
    wait_until(lambda: len(_ready(deployed)) == 2, "both workers are ready")
    return deployed


def _ready(deployed: Deployed) -> list[str]:
    workers = deployed.platform.workers(deployed.endpoint)
    return sorted(worker["id"] for worker in workers if worker["status"] == "IDLE")


def _write(deployed: Deployed, text: str, worker: int = 0) -> None:
    """Have a worker's container write a line, as its server would."""
    with deployed.platform.launcher.launches[worker].log_path.open("a") as log:
        log.write(f"{text}\n")


def test_the_lines_of_all_workers_are_shown_each_with_its_worker(deployed: Deployed) -> None:
    said = deployed.berth("logs").stdout
    for worker in _ready(deployed):
        assert f"{worker} | started with ['model', '--max-model-len', '2048']" in said
        assert f"{worker} | worker is ready after" in said


def test_one_worker_one_source_and_the_last_lines_can_be_asked_for(deployed: Deployed) -> None:
    launch = deployed.platform.launcher.launches[0]
    for number in range(5):
        _write(deployed, f"line {number}")
    said = deployed.berth("logs", "--worker", launch.name, "--source", "container", "--tail", "2").stdout
    assert said == "line 3\nline 4\n"
    said = deployed.berth("logs", "--worker", launch.name, "--source", "system").stdout
    assert "worker is ready" in said
    assert "line" not in said


def test_what_a_server_writes_cannot_steer_the_terminal(deployed: Deployed) -> None:
    _write(deployed, "\x1b]0;title\x07[bold]brackets[/] stay")
    said = deployed.berth("logs").stdout
    assert "[bold]brackets[/] stay" in said
    assert "\x1b" not in said


def test_a_worker_that_is_not_there_is_answered_with_those_that_are(deployed: Deployed) -> None:
    said = deployed.berth("logs", "--worker", "nope", exit_status=1).stderr
    assert "there is no worker or pod 'nope'" in said
    assert all(worker in said for worker in _ready(deployed))


def test_no_workers_are_no_lines(programs: Project, runpod: Platform) -> None:
    deployed = Deployed(programs, runpod, runpod.create())
    assert "runpod: there is no line" in deployed.berth("logs").stderr


def test_following_gives_lines_as_they_come_from_every_worker(deployed: Deployed) -> None:
    first, second = deployed.platform.launcher.launches
    with deployed.running("logs", "--follow") as following:
        _write(deployed, "from the first", 0)
        following.until(f"{first.name} | from the first")
        _write(deployed, "from the second", 1)
        following.until(f"{second.name} | from the second")
    assert following.process.returncode == 130


def test_a_connection_lost_while_following_loses_and_repeats_no_line(deployed: Deployed) -> None:
    worker = deployed.platform.launcher.launches[0].name
    with (
        breakable(deployed.platform.cloud.base_url) as (url, break_off),
        deployed.running("logs", "--follow", "--worker", worker, api=f"{url}/v2") as following,
    ):
        _write(deployed, "before")
        seen = following.until("before")
        break_off()
        _write(deployed, "while it is broken")
        _write(deployed, "after")
        seen += following.until("after")
    assert seen[-3:] == ["before", "while it is broken", "after"]
    assert len(set(seen)) == len(seen)


def test_following_one_worker_ends_when_it_is_gone(deployed: Deployed) -> None:
    worker = deployed.platform.launcher.launches[0].name
    with deployed.running("logs", "--follow", "--worker", worker) as following:
        following.until("worker is ready")
        api = deployed.platform.api
        api.patch(f"/serverless/{deployed.endpoint['id']}", json={"workers": {"min": 0, "max": 0}})
        following.until(f"{worker} is gone")
        following.process.wait(20)
    assert following.process.returncode == 0
