"""Faults that the admin route asks for: on the job API, in the worker protocol, in workers' machines."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.runpod.conftest import ECHO, NO_WORKERS, Platform, job_status, run_job, wait_until


def test_the_admin_route_wants_its_own_secret(platform: Platform) -> None:
    url = f"{platform.cloud.base_url}/_sandbox/faults"
    for secret in ("", "wrong"):
        for method in ("GET", "POST", "DELETE"):
            answer = httpx.request(method, url, headers={"x-sandbox-secret": secret}, trust_env=False)
            assert answer.status_code == 401
    assert platform.api.get(f"{platform.cloud.base_url}/_sandbox/faults").status_code == 401


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "method": "GET"},
        {"kind": "status", "method": "GET", "path": "/x", "status": 200},
        {"kind": "delay", "method": "GET", "path": "/x", "endpoint": "x"},
        {"kind": "kill_worker"},
        {"kind": "kill_worker", "endpoint": "x", "count": 0},
        {"kind": "no_capacity", "endpoint": "x", "count": 1},
        {"kind": "earthquake", "endpoint": "x"},
    ],
)
def test_a_fault_that_is_none_is_refused(platform: Platform, fault: dict[str, Any]) -> None:
    answer = platform.admin.post("/faults", json=fault)
    assert (answer.status_code, answer.json()["title"]) == (422, "Unprocessable Entity")
    assert platform.admin.get("/faults").json() == {"faults": []}


def test_faults_are_listed_until_they_are_used_up_or_forgotten(platform: Platform) -> None:
    jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
    platform.fault("GET", "/api/v2/.*/health", "status", count=2)
    assert jobs.get("/health").status_code == 500
    (left,) = platform.admin.get("/faults").json()["faults"]
    assert (left["count"], left["path"]) == (1, "/api/v2/.*/health")
    platform.forget_faults()
    assert jobs.get("/health").status_code == 200


def test_the_job_api_refuses_in_its_own_words(platform: Platform) -> None:
    jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
    platform.fault(
        "POST", "/api/v2/[a-z0-9]+/run", "status", status=429, retry_after_seconds=2.5, detail="slow down"
    )
    answer = jobs.post("/run", json=ECHO)
    assert (answer.status_code, answer.json()) == (429, {"error": "slow down"})
    assert answer.headers["retry-after"] == "2.5"
    platform.fault("GET", "/v2/serverless", "status", status=503, detail="maintenance")
    problem = platform.api.get("/serverless")
    assert (problem.status_code, problem.json()["detail"]) == (503, "maintenance")


@pytest.mark.parametrize(("kind", "queued"), [("drop_before", 0), ("drop_after", 1)])
def test_a_reply_is_lost_before_or_after_the_effect(platform: Platform, kind: str, queued: int) -> None:
    jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
    platform.fault("POST", "/api/v2/[a-z0-9]+/run", kind)
    with pytest.raises(httpx.TransportError):
        jobs.post("/run", json=ECHO)
    assert jobs.get("/health").json()["jobs"]["inQueue"] == queued


def test_a_reply_is_late(platform: Platform) -> None:
    jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
    platform.fault("GET", "/api/v2/[a-z0-9]+/health", "delay", delay_seconds=0.5)
    begin = time.monotonic()
    assert jobs.get("/health").status_code == 200
    assert time.monotonic() - begin >= 0.5


def test_without_capacity_new_workers_wait_and_old_ones_stay(platform: Platform) -> None:
    scaling = {"type": "REQUEST_COUNT", "requestCount": 1}
    made = platform.create_queue(scaling=scaling, workers={"min": 1, "max": 2})
    first = platform.silent_worker(made)
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    first.take()
    platform.worker_fault(made, "no_capacity")
    run_job(jobs)
    wait_until(lambda: platform.states(made) == ["RUNNING", "THROTTLED"], "the second finds no machine")
    throttled = next(worker for worker in platform.workers(made) if worker["status"] == "THROTTLED")
    assert (throttled["startedAt"], throttled["gpuTypeId"], throttled["uptimeSeconds"]) == (None, None, None)
    assert jobs.get("/health").json()["workers"]["throttled"] == 1
    assert len(platform.launcher.launches) == 1
    first.done(job_id, {"output": 1})
    platform.forget_faults()
    wait_until(lambda: len(platform.launcher.launches) == 2, "it gets its machine")
    assert "THROTTLED" not in platform.states(made)


def test_a_shortage_is_one_endpoints_own(platform: Platform) -> None:
    made = platform.create()
    other = platform.create(workers={"min": 1, "max": 1})
    platform.worker_fault(made, "no_capacity")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(platform.edge(made).get, "/v1/models")
        wait_until(lambda: platform.states(made) == ["THROTTLED"], "no machine for the load balancer either")
        wait_until(lambda: platform.states(other) == ["IDLE"], "the other endpoint has one")
        platform.forget_faults()
        assert answer.result().status_code == 200


def test_a_worker_is_killed_the_busy_one_first(platform: Platform) -> None:
    made = platform.create_queue(workers={"min": 2, "max": 2})
    idle, busy = platform.silent_workers(made, 2)
    assert idle.take() == []
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    busy.take()
    platform.worker_fault(made, "kill_worker")
    wait_until(lambda: job_status(jobs, job_id)["status"] == "IN_QUEUE", "its job is queued again")
    statuses = {it.process.name: it.poll() for it in platform.launcher.running[:2]}
    assert [status for name, status in statuses.items() if name == busy.id] == [-9]
    assert [status for name, status in statuses.items() if name != busy.id] == [None]
    assert platform.admin.get("/faults").json() == {"faults": []}


def test_a_kill_waits_for_a_worker(platform: Platform) -> None:
    made = platform.create()
    platform.worker_fault(made, "kill_worker")
    edge = platform.edge(made)
    edge.get("/v1/models")
    wait_until(lambda: len(platform.launcher.launches) == 2, "the worker is killed and started again")
    assert platform.launcher.running[0].poll() == -9
    assert edge.get("/v1/models").status_code == 200


def test_a_poll_hangs_until_the_worker_gives_up_or_the_fault_is_forgotten(fast_platform: Platform) -> None:
    made = fast_platform.create_queue()
    jobs = fast_platform.jobs(made)
    fast_platform.worker_fault(made, "hang_poll", count=2)
    job_id = run_job(jobs)
    worker = fast_platform.silent_worker(made)
    worker.http.timeout = httpx.Timeout(1.0)  # five times as long as a poll is held here
    with ThreadPoolExecutor() as pool:
        first = pool.submit(worker.take)
        with pytest.raises(httpx.ReadTimeout):
            first.result()
        second = pool.submit(worker.take)
        wait_until(lambda: not fast_platform.admin.get("/faults").json()["faults"], "both polls hang")
        assert job_status(jobs, job_id)["status"] == "IN_QUEUE"
        fast_platform.forget_faults()
        assert second.result() == []
    assert [job["id"] for job in worker.take()] == [job_id]


def test_a_lost_reply_to_a_poll_does_not_lose_the_job(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    platform.fault("GET", "/api/v2/[a-z0-9]+/job-take/.*", "drop_after")
    with pytest.raises(httpx.TransportError):
        worker.take()
    assert job_status(jobs, job_id)["status"] == "IN_PROGRESS"
    worker.ping()
    worker.ping()
    assert [job["id"] for job in worker.take()] == [job_id]
