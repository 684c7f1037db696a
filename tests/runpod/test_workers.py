"""Workers of queue endpoints: how many there are, when they are replaced, what becomes of their jobs."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.runpod.conftest import (
    ECHO,
    OTHER_IMAGE,
    Platform,
    job_status,
    run_job,
    start_platform,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _by_count(requests: int) -> dict[str, Any]:
    return {"type": "REQUEST_COUNT", "requestCount": requests}


def _log(platform: Platform, made: dict[str, Any], worker_id: str) -> str:
    """Return what the platform has said about a worker."""
    url = f"/serverless/{made['id']}/workers/{worker_id}/logs"
    lines: list[str] = []
    try:
        with platform.api.stream("GET", url, params={"source": "system"}, timeout=0.5) as answer:
            lines.extend(answer.iter_lines())
    except httpx.ReadTimeout:
        pass
    return "\n".join(lines)


def _kill(platform: Platform, worker_id: str) -> None:
    container = next(it for it in platform.launcher.running[::-1] if it.process.name == worker_id)
    os.killpg(container.process.pid, signal.SIGKILL)


def _has(platform: Platform, made: dict[str, Any], workers: int) -> bool:
    return len(platform.workers(made)) == workers


def test_a_worker_initializes_until_it_asks_for_a_job(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    worker = platform.silent_worker(made)
    assert platform.states(made) == ["INITIALIZING"]
    run_job(platform.jobs(made))
    assert len(worker.take()) == 1
    (shown,) = platform.workers(made)
    assert (shown["status"], shown["id"], shown["isStale"]) == ("RUNNING", worker.id, False)
    assert platform.jobs(made).get("/health").json()["workers"] == {
        "idle": 0, "initializing": 0, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0
    }  # fmt: skip


def test_the_number_of_requests_calls_up_workers(platform: Platform) -> None:
    made = platform.create_queue(scaling=_by_count(2), workers={"min": 0, "max": 3})
    jobs = platform.jobs(made)
    submitted = 0
    for requests, workers in ((1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 3)):
        for _ in range(requests - submitted):
            run_job(jobs)
        submitted = requests
        wait_until(partial(_has, platform, made, workers), f"{workers} workers for {requests} jobs")


def test_a_jobs_wait_calls_up_one_worker_after_another(fast_platform: Platform) -> None:
    made = fast_platform.create_queue(
        scaling={"type": "QUEUE_DELAY", "queueDelay": 60}, workers={"min": 0, "max": 3, "idleTimeout": 60}
    )
    run_job(fast_platform.jobs(made))
    wait_until(lambda: len(fast_platform.workers(made)) == 1, "the first worker comes at once")
    wait_until(lambda: len(fast_platform.workers(made)) == 3, "the others come")
    started = sorted(worker["startedAt"] for worker in fast_platform.workers(made))
    assert started[0] < started[1] < started[2]
    fast_platform.jobs(made).post("/purge-queue")


def test_idle_workers_go_after_their_timeout_and_those_of_the_minimum_stay(fast_platform: Platform) -> None:
    made = fast_platform.create_queue(
        scaling=_by_count(1), workers={"min": 1, "max": 2}, env={"RUNPOD_INIT_TIMEOUT": "86400"}
    )
    jobs = fast_platform.jobs(made)
    for _ in range(2):
        run_job(jobs)
    for worker in fast_platform.silent_workers(made, 2):
        for job in worker.take():
            worker.done(job["id"], {"output": 1})
    wait_until(lambda: fast_platform.states(made) == ["IDLE"], "one goes, one stays")
    fast_platform.api.patch(f"/serverless/{made['id']}", json={"workers": {"min": 0}})
    wait_until(lambda: fast_platform.workers(made) == [], "it goes too")


def test_a_release_replaces_idle_workers_at_once_and_busy_ones_after_their_job(platform: Platform) -> None:
    made = platform.create_queue(scaling=_by_count(1), workers={"min": 2, "max": 2})
    jobs = platform.jobs(made)
    idle, busy = platform.silent_workers(made, 2)
    job_id = run_job(jobs)
    assert [job["id"] for job in busy.take()] == [job_id]
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(idle.take)
        wait_until(lambda: platform.states(made) == ["IDLE", "RUNNING"], "both are ready")
        platform.api.patch(f"/serverless/{made['id']}", json={"image": OTHER_IMAGE})
        assert poll.result(timeout=3) == []  # answered early, so that it can end
    wait_until(lambda: idle.id not in {w["id"] for w in platform.workers(made)}, "the idle one goes")
    stale = {worker["id"]: worker["isStale"] for worker in platform.workers(made)}
    assert stale[busy.id]
    waiting = run_job(jobs)
    assert busy.take() == []  # no new job for an old release
    assert job_status(jobs, waiting)["status"] == "IN_QUEUE"
    busy.done(job_id, {"output": 1})
    assert job_status(jobs, job_id)["output"] == 1
    wait_until(lambda: busy.id not in {w["id"] for w in platform.workers(made)}, "the busy one goes")
    assert {worker["image"] for worker in platform.workers(made)} == {OTHER_IMAGE}
    rollout = platform.api.get(f"/serverless/{made['id']}/releases").json()["rollout"]
    assert (rollout["inProgress"], rollout["workersOnLatest"]) == (False, 2)


def test_a_worker_that_is_spent_is_replaced(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    jobs = platform.jobs(made)
    first, other = run_job(jobs), run_job(jobs)
    worker = platform.silent_worker(made)
    assert len(worker.take(2)) == 2
    worker.done(first, {"output": 1, "stopPod": True})
    late = run_job(jobs)
    assert worker.take() == []
    worker.done(other, {"output": 2})
    wait_until(lambda: worker.id not in {w["id"] for w in platform.workers(made)}, "it goes")
    wait_until(lambda: platform.silent_worker(made).id != worker.id, "another comes")
    assert [job["id"] for job in platform.silent_worker(made).take()] == [late]


def test_a_job_whose_worker_dies_is_given_out_once_more(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    worker.take()
    worker.piece(job_id, "half")
    _kill(platform, worker.id)
    wait_until(lambda: job_status(jobs, job_id)["status"] == "IN_QUEUE", "the job is queued again")
    assert job_status(jobs, job_id)["retries"] == 1
    assert jobs.get(f"/stream/{job_id}").json()["stream"] == []
    wait_until(lambda: platform.launcher.alive() == 1, "the container is started again")
    wait_until(lambda: [job["id"] for job in worker.take()] == [job_id], "it gets the job again")
    _kill(platform, worker.id)
    wait_until(lambda: job_status(jobs, job_id)["status"] == "FAILED", "the job is given up")
    failed = job_status(jobs, job_id)
    assert (failed["error"], failed["retries"]) == ("job timed out after 1 retries", 1)
    assert jobs.get("/health").json()["jobs"]["retried"] == 1


def test_a_job_that_its_worker_does_not_know_of_is_taken_back(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    known, unknown = run_job(jobs), run_job(jobs)
    worker = platform.silent_worker(made)
    assert len(worker.take(2)) == 2
    worker.ping(job_id=known)
    worker.ping(job_id=f"{known},{unknown}")
    worker.ping(job_id=known)
    assert job_status(jobs, unknown)["status"] == "IN_PROGRESS"
    worker.ping(job_id=known)
    assert job_status(jobs, unknown)["status"] == "IN_QUEUE"
    assert job_status(jobs, known)["status"] == "IN_PROGRESS"
    assert [job["id"] for job in worker.take()] == [unknown]
    worker.ping()
    worker.ping()
    assert job_status(jobs, unknown)["error"] == "job timed out after 1 retries"


def test_a_worker_that_says_it_is_not_well_is_unhealthy(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    worker = platform.silent_worker(made)
    worker.ping(status="unhealthy", check="gpu_check", reason="no device")
    assert platform.states(made) == ["UNHEALTHY"]
    assert "gpu_check: no device" in _log(platform, made, worker.id)
    run_job(platform.jobs(made))
    assert len(worker.take()) == 1
    assert platform.states(made) == ["RUNNING"]


def test_workers_that_cannot_start_are_given_up_and_tried_again_later(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod", retry_seconds=100, speed=50.0)
    try:
        platform.delegate()
        made = platform.create_queue(args="refuse")
        job_id = run_job(platform.jobs(made))
        wait_until(lambda: platform.states(made) == ["UNHEALTHY"], "the worker is given up")
        (first,) = platform.workers(made)
        assert _log(platform, made, first["id"]).count("container exited with status 2") == 3
        assert len(platform.launcher.launches) == 3
        wait_until(lambda: first["id"] not in {w["id"] for w in platform.workers(made)}, "it is replaced")
        assert job_status(platform.jobs(made), job_id)["status"] == "IN_QUEUE"
    finally:
        platform.cloud.stop()


@pytest.mark.parametrize(("env", "seconds"), [({}, 420), ({"RUNPOD_INIT_TIMEOUT": "100"}, 100)])
def test_a_worker_that_never_asks_for_a_job_is_stopped(
    tmp_path: Path, env: dict[str, str], seconds: int
) -> None:
    platform = start_platform(tmp_path / "runpod", speed=500.0)
    try:
        platform.delegate()
        made = platform.create_queue(workers={"min": 1, "max": 1}, env=env)
        worker = platform.silent_worker(made)
        wait_until(lambda: len(platform.launcher.launches) >= 2, "it is started again")
        assert f"worker was not ready within {seconds} s" in _log(platform, made, worker.id)
    finally:
        platform.cloud.stop()


@pytest.mark.parametrize("key", ["", "wrong", "Bearer {}"])
def test_only_a_workers_own_key_opens_the_worker_protocol(platform: Platform, key: str) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    worker = platform.silent_worker(made)
    worker.http.headers["Authorization"] = key.format(worker.http.headers["Authorization"])
    for answer in (worker.ping(), worker.done("1", {}), worker.piece("1", 1)):
        assert (answer.status_code, answer.json()) == (401, {"error": "unauthorized"})


def test_with_flashboot_no_job_is_a_bad_request(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1}, flashboot="FLASHBOOT")
    worker = platform.silent_worker(made)
    url = worker.launch.env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", worker.id)
    assert worker.http.get(url).status_code == 400
    job_id = run_job(platform.jobs(made))
    assert [job["id"] for job in worker.take()] == [job_id]


def test_a_worker_that_is_not_there_is_404(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    worker = platform.silent_worker(made)
    worker.id = "nobody"
    assert worker.ping().status_code == 404


def test_a_poll_whose_worker_hung_up_takes_no_job(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 1, "max": 1})
    worker = platform.silent_worker(made)
    worker.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        worker.take()
    worker.http.timeout = httpx.Timeout(10)
    job_id = run_job(platform.jobs(made))
    assert [job["id"] for job in worker.take()] == [job_id]


@pytest.fixture
def sdk_platform(tmp_path: Path) -> Iterator[Platform]:
    """Yield a platform for workers of the real SDK, which end only between two polls."""
    platform = start_platform(tmp_path / "runpod", speed=10.0)
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


def test_the_sdks_worker_finishes_its_job_when_it_is_told_to_end(sdk_platform: Platform) -> None:
    made = sdk_platform.create_queue(args="plain", workers={"min": 0, "max": 1, "idleTimeout": 60})
    jobs = sdk_platform.jobs(made)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(jobs.post, "/runsync", json={"input": {"do": "sleep", "seconds": 1}})
        wait_until(lambda: sdk_platform.states(made) == ["RUNNING"], "the job runs", 30)
        sdk_platform.launcher.running[0].process.popen.terminate()
        assert answer.result().json()["output"] == {"slept": 1}
    refreshed = jobs.post(
        "/runsync", json={"input": {"do": "return", "value": {"refresh_worker": True, "a": 1}}}
    ).json()
    assert (refreshed["status"], refreshed["output"]) == ("COMPLETED", {"a": 1})
    wait_until(lambda: sdk_platform.workers(made) == [], "the worker that asked for it goes")
    assert jobs.get("/health").json()["jobs"]["retried"] == 0


def test_the_sdks_worker_drops_a_job_without_input(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod", speed=20.0, init_seconds=86_400)
    try:
        platform.delegate()
        made = platform.create_queue(args="plain", workers={"min": 0, "max": 1, "idleTimeout": 3600})
        jobs = platform.jobs(made)
        job_id = run_job(jobs, input={})
        wait_until(lambda: job_status(jobs, job_id)["status"] == "FAILED", "the job is given up", 30)
        assert job_status(jobs, job_id)["error"] == "job timed out after 1 retries"
        assert jobs.post("/runsync", json=ECHO).json()["output"] == ECHO["input"]
    finally:
        platform.cloud.stop()
