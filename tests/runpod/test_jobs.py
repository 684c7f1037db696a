"""What becomes of a job, with workers that leave the worker protocol to the test."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.runpod.conftest import ECHO, NO_WORKERS, Platform, job_status, run_job, wait_until


def test_a_job_goes_from_the_queue_to_a_worker_to_its_result(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    assert made["requestUrls"]["run"] == f"{jobs.base_url}run"
    job_id = run_job(jobs, input={"prompt": "hi"})
    assert job_id.endswith("-u1")
    assert job_status(jobs, job_id) == {"id": job_id, "status": "IN_QUEUE"}
    worker = platform.silent_worker(made)
    assert worker.take() == [{"id": job_id, "input": {"prompt": "hi"}}]
    running = job_status(jobs, job_id)
    assert (running["status"], running["workerId"]) == ("IN_PROGRESS", worker.id)
    assert worker.done(job_id, {"output": ["hello"]}).status_code == 200
    finished = job_status(jobs, job_id)
    assert isinstance(finished.pop("delayTime"), int)
    assert isinstance(finished.pop("executionTime"), int)
    assert finished == {"id": job_id, "status": "COMPLETED", "workerId": worker.id, "output": ["hello"]}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"output": 0}, {"status": "COMPLETED", "output": 0}),
        ({"output": {"a": 1}, "error": "no"}, {"status": "FAILED", "output": {"a": 1}, "error": "no"}),
        ({"error": "no"}, {"status": "FAILED", "error": "no"}),
        ({}, {"status": "COMPLETED"}),
    ],
)
def test_a_result_is_shown_as_the_worker_posts_it(
    platform: Platform, result: dict[str, Any], expected: dict[str, Any]
) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    assert len(worker.take()) == 1
    worker.done(job_id, result)
    shown = job_status(jobs, job_id)
    assert {key: shown[key] for key in ("status", "output", "error") if key in shown} == expected


def test_a_result_that_comes_late_or_twice_changes_nothing(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    answered, cancelled = run_job(jobs), run_job(jobs)
    worker = platform.silent_worker(made)
    assert [job["id"] for job in worker.take(2)] == [answered, cancelled]
    worker.done(answered, {"output": "first"})
    jobs.post(f"/cancel/{cancelled}")
    for job_id in (answered, cancelled, "nothing"):
        assert worker.done(job_id, {"output": "second"}).status_code == 200
    assert job_status(jobs, answered)["output"] == "first"
    assert job_status(jobs, cancelled)["status"] == "CANCELLED"
    assert "output" not in job_status(jobs, cancelled)
    health = jobs.get("/health").json()["jobs"]
    assert (health["completed"], health["inProgress"]) == (1, 0)


def test_runsync_waits_as_long_as_it_is_asked_to(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    early = jobs.post("/runsync", params={"wait": 1000}, json=ECHO).json()
    assert early["status"] == "IN_QUEUE"
    assert early["id"].startswith("sync-")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(jobs.post, "/runsync", json=ECHO)
        worker = platform.silent_worker(made)
        taken = [job["id"] for _ in range(2) for job in worker.take()]
        for job_id in taken:
            worker.done(job_id, {"output": job_id})
        document = answer.result().json()
    assert document["status"] == "COMPLETED"
    assert document["output"] == document["id"]
    assert set(taken) == {early["id"], document["id"]}


def test_a_stream_gives_every_piece_once(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    worker.take()
    worker.piece(job_id, "a")
    worker.piece(job_id, {"b": 1})
    first = jobs.get(f"/stream/{job_id}").json()
    assert (first["status"], first["stream"]) == ("IN_PROGRESS", [{"output": "a"}, {"output": {"b": 1}}])
    assert jobs.get(f"/stream/{job_id}").json()["stream"] == []
    worker.piece(job_id, "c")
    worker.done(job_id, {"output": []})
    last = jobs.get(f"/stream/{job_id}").json()
    assert (last["status"], last["stream"]) == ("COMPLETED", [{"output": "c"}])


def test_progress_is_no_result(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    worker.take()
    worker.done(job_id, {"status": "IN_PROGRESS", "output": "half"})
    shown = job_status(jobs, job_id)
    assert (shown["status"], shown["output"]) == ("IN_PROGRESS", "half")
    worker.done(job_id, {"output": "whole"})
    worker.done(job_id, {"status": "IN_PROGRESS", "output": "half"})
    assert job_status(jobs, job_id)["output"] == "whole"


def test_a_cancelled_job_is_stopped_where_it_runs_and_given_to_nobody_where_it_waits(
    platform: Platform,
) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    running, waiting, other = (run_job(jobs) for _ in range(3))
    worker = platform.silent_worker(made)
    assert [job["id"] for job in worker.take()] == [running]
    for job_id in (running, waiting):
        assert jobs.post(f"/cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
    assert worker.stops() == [running]
    assert [job["id"] for job in worker.take()] == [other]
    worker.done(other, {"output": 1})
    assert jobs.post(f"/cancel/{other}").json()["status"] == "COMPLETED"


def test_a_failed_job_can_be_retried_and_no_other(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    assert jobs.post(f"/retry/{job_id}").status_code == 400
    worker = platform.silent_worker(made)
    worker.take()
    worker.done(job_id, {"error": "no"})
    assert jobs.post(f"/retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    assert "error" not in job_status(jobs, job_id)
    assert [job["id"] for job in worker.take()] == [job_id]
    worker.done(job_id, {"output": "yes"})
    shown = job_status(jobs, job_id)
    assert (shown["output"], shown["retries"]) == ("yes", 1)
    assert jobs.post(f"/retry/{job_id}").status_code == 400


def test_purging_takes_what_waits_and_leaves_what_runs(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    running, *waiting = (run_job(jobs) for _ in range(3))
    worker = platform.silent_worker(made)
    worker.take()
    counts = jobs.get("/health").json()["jobs"]
    assert (counts["inQueue"], counts["inProgress"]) == (2, 1)
    assert jobs.post("/purge-queue").json() == {"removed": 2, "status": "completed"}
    assert {job_status(jobs, job_id)["status"] for job_id in waiting} == {"CANCELLED"}
    assert job_status(jobs, running)["status"] == "IN_PROGRESS"
    listed = jobs.get("/requests").json()["requests"]
    assert {job["id"] for job in listed} == {running, *waiting}


def test_jobs_of_low_priority_wait_for_others_and_call_up_no_worker(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    low = run_job(jobs, policy={"lowPriority": True})
    assert jobs.get("/health").json()["jobs"]["inQueue"] == 1
    assert platform.workers(made) == []
    high = run_job(jobs)
    worker = platform.silent_worker(made)
    assert [job["id"] for job in worker.take(2)] == [high, low]


def test_deleting_an_endpoint_answers_those_who_wait(platform: Platform) -> None:
    made = platform.create_queue(workers=NO_WORKERS)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(platform.jobs(made).post, "/runsync", json=ECHO)
        wait_until(
            lambda: platform.jobs(made).get("/health").json()["jobs"]["inQueue"] == 1, "the job is queued"
        )
        assert platform.api.delete(f"/serverless/{made['id']}").status_code == 204
        assert waiting.result(timeout=5).status_code == 404
    assert platform.jobs(made).get("/health").status_code == 404
