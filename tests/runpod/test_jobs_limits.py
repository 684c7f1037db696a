"""What the job API refuses, and when it forgets: bodies, keys, rates, time limits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.runpod.limits import JobLimits, Rate
from tests.runpod.conftest import (
    ECHO,
    KEY,
    NO_WORKERS,
    Platform,
    job_status,
    run_job,
    start_platform,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield a platform for the tests that need no worker."""
    platform = start_platform(tmp_path_factory.mktemp("limits") / "runpod")
    platform.delegate()
    yield platform
    platform.cloud.stop()


@pytest.fixture(scope="module")
def queue(shared: Platform) -> dict[str, Any]:
    """Return an endpoint whose jobs stay where they are."""
    return shared.create_queue(workers=NO_WORKERS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "bad request: body: not JSON"),
        (b"[1]", "bad request: body: must be an object, not list"),
        (b"{}", "bad request: input: field required"),
        (
            b'{"input":1,"policy":{"executionTimeout":4999}}',
            "bad request: policy.executionTimeout: input should be greater than or equal to 5000",
        ),
        (b'{"input":1,"policy":{"executionTimeout":604800001}}', "bad request: policy.executionTimeout: "),
        (b'{"input":1,"policy":{"ttl":9999}}', "bad request: policy.ttl: "),
        (b'{"input":1,"policy":{"lowPriority":"yes"}}', "bad request: policy.lowPriority: "),
        (b'{"input":1,"webhook":"example.com"}', "bad request: webhook: "),
        (b'{"input":1,"s3Config":{"accessId":"a"}}', "bad request: s3Config: the sandbox stores no results"),
    ],
)
@pytest.mark.parametrize("operation", ["run", "runsync"])
def test_a_body_that_does_not_fit_is_refused(
    shared: Platform, queue: dict[str, Any], operation: str, body: bytes, message: str
) -> None:
    jobs = shared.jobs(queue)
    answer = jobs.post(f"/{operation}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize("query", ["wait=999", "wait=300001", "wait=soon"])
def test_a_wait_out_of_bounds_is_refused(shared: Platform, queue: dict[str, Any], query: str) -> None:
    jobs = shared.jobs(queue)
    answer = jobs.post(f"/runsync?{query}", json=ECHO)
    assert (answer.status_code, "must be 1000 to 300000" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(("operation", "mebibytes"), [("run", 10), ("runsync", 20), ("openai/v1/x", 20)])
def test_a_payload_over_the_limit_is_refused(
    shared: Platform, queue: dict[str, Any], operation: str, mebibytes: int
) -> None:
    jobs = shared.jobs(queue)
    answer = jobs.post(f"/{operation}", content=b'{"input":"' + b"x" * (mebibytes << 20) + b'"}')
    assert answer.status_code == 400
    assert answer.json() == {"error": f"bad request: body: exceeded max body size of {mebibytes}MiB"}


def test_a_result_or_piece_over_the_limit_is_refused(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    job_id = run_job(jobs)
    worker = platform.silent_worker(made)
    worker.take()
    assert worker.piece(job_id, "x" * (1 << 20)).status_code == 400
    assert worker.done(job_id, {"output": "x" * (20 << 20)}).status_code == 400
    assert job_status(jobs, job_id)["status"] == "IN_PROGRESS"
    assert worker.done(job_id, {"output": "x" * (19 << 20)}).status_code == 200


def test_empty_input_is_dropped_on_the_way(platform: Platform) -> None:
    made = platform.create_queue()
    jobs = platform.jobs(made)
    empty, null, zero = run_job(jobs, input={}), run_job(jobs, input=None), run_job(jobs, input=0)
    assert platform.silent_worker(made).take(3) == [{"id": empty}, {"id": null}, {"id": zero, "input": 0}]


@pytest.mark.parametrize("key", ["", "Bearer wrong", "wrong"])
def test_the_key_is_asked_for(shared: Platform, queue: dict[str, Any], key: str) -> None:
    for method, path in (
        ("POST", "run"),
        ("GET", "health"),
        ("GET", "openai/v1/models"),
        ("GET", "requests"),
    ):
        url = f"{shared.cloud.jobs}/{queue['id']}/{path}"
        answer = httpx.request(method, url, headers={"Authorization": key}, trust_env=False)
        assert (answer.status_code, answer.json()) == (401, {"error": "unauthorized"})


def test_the_key_is_taken_with_and_without_its_scheme(shared: Platform, queue: dict[str, Any]) -> None:
    url = f"{shared.cloud.jobs}/{queue['id']}/health"
    for key in (KEY, f"Bearer {KEY}"):
        assert httpx.get(url, headers={"Authorization": key}, trust_env=False).status_code == 200


def test_what_does_not_exist_is_404(shared: Platform, queue: dict[str, Any]) -> None:
    jobs = shared.jobs(queue)
    for method, path in (("GET", "status"), ("GET", "stream"), ("POST", "cancel"), ("POST", "retry")):
        answer = jobs.request(method, f"/{path}/nothing")
        assert (answer.status_code, answer.json()) == (404, {"error": "job not found"})
    assert jobs.get("/nothing").status_code == 404
    assert jobs.get("/run").status_code == 405
    assert shared.jobs({"id": "nothing"}).post("/run", json=ECHO).status_code == 404


def test_each_type_of_endpoint_refuses_the_others_requests(shared: Platform, queue: dict[str, Any]) -> None:
    balanced = shared.create()
    refusal = (400, {"error": "not allowed for QB API"})
    for method, path in (("POST", "run"), ("GET", "status/1"), ("POST", "openai/v1/chat/completions")):
        answer = shared.jobs(balanced).request(method, f"/{path}")
        assert (answer.status_code, answer.json()) == refusal
    health = shared.jobs(balanced).get("/health").json()
    assert set(health["workers"]) == {
        "idle", "initializing", "ready", "running", "throttled", "unhealthy"
    }  # fmt: skip
    answer = httpx.get(
        f"{shared.cloud.base_url}/{queue['id']}/v1/models",
        headers={"Authorization": f"Bearer {KEY}"},
        trust_env=False,
    )
    assert (answer.status_code, answer.json()) == refusal


def test_rates_are_limited_for_each_operation_and_endpoint(tmp_path: Path) -> None:
    limits = JobLimits(rates={"status": Rate(2, None), "runsync": Rate(100, 1)})
    platform = start_platform(tmp_path / "runpod", job_limits=limits, speed=20.0)
    try:
        platform.delegate()
        jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
        job_id = run_job(jobs)
        answers = [jobs.get(f"/status/{job_id}") for _ in range(5)]  # three of them in the same window
        assert max(answer.status_code for answer in answers) == 429
        wait_until(lambda: jobs.get(f"/status/{job_id}").status_code == 200, "the window is over")
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(jobs.post, "/runsync", params={"wait": 15_000}, json=ECHO) for _ in range(2)]
            assert sorted(answer.result().status_code for answer in both) == [200, 429]
    finally:
        platform.cloud.stop()


def test_published_rates_refuse_the_third_purge(shared: Platform, queue: dict[str, Any]) -> None:
    jobs = shared.jobs(queue)
    answers = [jobs.post("/purge-queue") for _ in range(5)]  # of which three are in the same ten seconds
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 1 <= len(refused) <= 3
    assert refused[0].json() == {"error": "too many requests"}


def test_a_job_that_takes_too_long_is_timed_out_and_stopped(fast_platform: Platform) -> None:
    made = fast_platform.create_queue(timeout=7_000)
    jobs = fast_platform.jobs(made)
    by_endpoint, by_policy = run_job(jobs), run_job(jobs, policy={"executionTimeout": 20_000})
    worker = fast_platform.silent_worker(made)
    assert {job["id"] for job in worker.take(2)} == {by_endpoint, by_policy}
    wait_until(lambda: job_status(jobs, by_policy)["status"] == "TIMED_OUT", "both are timed out")
    first, second = job_status(jobs, by_endpoint), job_status(jobs, by_policy)
    assert first["error"] == "executionTimeout exceeded"
    # Timers of this machine are as exact as a tenth of a second of the platform here.
    assert 6_900 <= first["executionTime"] < 19_900 <= second["executionTime"]
    assert set(worker.stops()) == {by_endpoint, by_policy}
    assert jobs.post(f"/retry/{by_endpoint}").json()["status"] == "IN_QUEUE"


def test_a_jobs_ttl_ends_it_in_any_state(fast_platform: Platform) -> None:
    made = fast_platform.create_queue(workers=NO_WORKERS)
    jobs = fast_platform.jobs(made)
    waiting = run_job(jobs, policy={"ttl": 10_000})
    wait_until(lambda: jobs.get(f"/status/{waiting}").status_code == 404, "the queued job is gone")
    assert jobs.get("/health").json()["jobs"]["inQueue"] == 0
    fast_platform.api.patch(f"/serverless/{made['id']}", json={"workers": {"max": 1}})
    running, finished = (run_job(jobs, policy={"ttl": 60_000}) for _ in range(2))
    worker = fast_platform.silent_worker(made)
    assert [job["id"] for job in worker.take(2)] == [running, finished]
    worker.done(finished, {"output": 1})
    wait_until(lambda: jobs.get(f"/status/{running}").status_code == 404, "the running job is gone")
    wait_until(lambda: jobs.get(f"/status/{finished}").status_code == 404, "the finished job is gone")
    assert worker.stops() == [running]


def test_results_are_kept_for_so_long(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod", speed=600.0, init_seconds=86_400)
    try:
        platform.delegate()
        made = platform.create_queue(workers={"min": 0, "max": 1, "idleTimeout": 3600})
        jobs = platform.jobs(made)
        asynchronous, shortened = run_job(jobs), run_job(jobs)
        synchronous = jobs.post("/runsync", params={"wait": 1000}, json=ECHO).json()["id"]
        assert jobs.post("/runsync", params={"wait": 300_000}, json=ECHO).status_code == 524
        worker = platform.silent_worker(made)
        taken = worker.take(4)
        patient = taken[-1]["id"]
        for job in taken:
            worker.done(job["id"], {"output": 1})
        assert jobs.get(f"/status/{shortened}", params={"ttl": 1000}).json()["status"] == "COMPLETED"
        wait_until(lambda: jobs.get(f"/status/{shortened}").status_code == 404, "ttl of the status request")
        wait_until(lambda: jobs.get(f"/status/{synchronous}").status_code == 404, "a minute")
        assert jobs.get(f"/status/{patient}").status_code == 200
        wait_until(lambda: jobs.get(f"/status/{patient}").status_code == 404, "as long as the client waited")
        assert jobs.get(f"/status/{asynchronous}").status_code == 200
        wait_until(lambda: jobs.get(f"/status/{asynchronous}").status_code == 404, "half an hour")
    finally:
        platform.cloud.stop()


def test_a_synchronous_answer_that_does_not_come_in_100_seconds_is_524(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod", speed=300.0)
    try:
        platform.delegate()
        jobs = platform.jobs(platform.create_queue(workers=NO_WORKERS))
        begin = time.monotonic()
        late = jobs.post("/runsync", params={"wait": 300_000}, json=ECHO)
        assert 0.3 < time.monotonic() - begin < 0.9
        assert (late.status_code, late.text) == (524, "error code: 524")
        assert jobs.post("/runsync", json=ECHO).json()["status"] == "IN_QUEUE"
        assert jobs.get("/openai/v1/models").status_code == 524
        assert jobs.get("/health").json()["jobs"]["inQueue"] == 3
    finally:
        platform.cloud.stop()
