"""Many clients at once while workers are killed: every job has one answer, and never a second one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.runpod.conftest import Platform, job_status, start_platform, wait_until

if TYPE_CHECKING:
    from pathlib import Path

JOBS = 300
JOB_SECONDS = 0.5
CLIENTS = 50
KILLS = 4


def test_every_job_is_answered_once_while_workers_are_killed(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod", speed=4.0)
    try:
        platform.delegate()
        made = platform.create_queue(
            args="plain",
            scaling={"type": "REQUEST_COUNT", "requestCount": 20},
            workers={"min": 2, "max": 2},
            env={"FAKE_CONCURRENCY": "32", "RUNPOD_LOG_LEVEL": "ERROR"},
        )
        wait_until(lambda: platform.states(made) == ["IDLE", "IDLE"], "two workers are ready", 60)
        _storm(platform, made)
    finally:
        platform.cloud.stop()
    assert platform.launcher.alive() == 0


def _storm(platform: Platform, made: dict[str, Any]) -> None:
    finished = 0
    lock = threading.Lock()

    def ask(number: int) -> dict[str, Any]:
        nonlocal finished
        jobs = platform.jobs(made)
        asked = {"do": "sleep", "seconds": JOB_SECONDS} if number % 2 else {"do": "echo", "number": number}
        # As long as a client may wait, which is also how long the result is kept.
        wait = {"wait": 100_000}
        answer: dict[str, Any] = jobs.post("/runsync", params=wait, json={"input": asked}, timeout=100).json()
        with lock:
            finished += 1
            if finished % (JOBS // (KILLS + 1)) == 0 and finished < JOBS:
                platform.worker_fault(made, "kill_worker")
        return {**answer, "asked": asked}

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(JOBS)))
    assert len({answer["id"] for answer in answers}) == JOBS
    jobs = platform.jobs(made)
    for answer in answers:
        asked = answer.pop("asked")
        assert job_status(jobs, answer["id"]) == answer  # no later answer has changed it
        if answer["status"] == "COMPLETED":
            assert answer["output"] == (asked if asked["do"] == "echo" else {"slept": JOB_SECONDS})
        else:
            # Hit twice, a job is given up: as the platform does, in its words.
            assert (answer["error"], answer["retries"]) == ("job timed out after 1 retries", 1)
    counts = jobs.get("/health").json()["jobs"]
    assert (counts["completed"] + counts["failed"], counts["inQueue"], counts["inProgress"]) == (JOBS, 0, 0)
    killed = [it for it in platform.launcher.running if it.poll() == -9]
    assert len(killed) == KILLS
    assert counts["retried"] > 0
