"""The real SDK, unchanged, at both ends: its clients ask, its worker answers."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import runpod  # type: ignore[import-untyped]

from tests.runpod.conftest import KEY, Platform, job_status, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM = {"min": 1, "max": 1, "idleTimeout": 60}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield a platform for all tests here: the SDK's worker takes seconds to start."""
    platform = start_platform(tmp_path_factory.mktemp("sdk") / "runpod")
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


@pytest.fixture(scope="module")
def plain(shared: Platform) -> dict[str, Any]:
    """Return an endpoint whose handler returns; its worker has four jobs at once."""
    return shared.create_queue(name="plain", args="plain", workers=WARM, env={"FAKE_CONCURRENCY": "4"})


@pytest.fixture(scope="module")
def generator(shared: Platform) -> dict[str, Any]:
    """Return an endpoint whose handler yields."""
    return shared.create_queue(
        name="generator", args="generator aggregate", workers=WARM, env={"FAKE_CONCURRENCY": "4"}
    )


@pytest.fixture(autouse=True)
def _base_url(shared: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod, "endpoint_url_base", shared.cloud.jobs)


def _log(shared: Platform, made: dict[str, Any]) -> str:
    worker_id = shared.workers(made)[0]["id"]
    launch = next(launch for launch in shared.launcher.launches if launch.name == worker_id)
    return launch.log_path.read_text()


def test_a_client_runs_a_job_and_waits_for_it(plain: dict[str, Any]) -> None:
    endpoint = runpod.Endpoint(plain["id"], api_key=KEY)
    asked = {"do": "echo", "text": "hé"}
    assert endpoint.run_sync(asked, timeout=60) == asked
    job = endpoint.run(asked)
    assert job.output(timeout=30) == asked
    assert job.status() == "COMPLETED"
    health = endpoint.health()
    assert (health["jobs"]["completed"], health["workers"]["ready"]) == (2, 1)


def test_an_asynchronous_client_does_the_same(plain: dict[str, Any]) -> None:
    async def ask() -> tuple[Any, Any, Any]:
        async with aiohttp.ClientSession() as session:
            endpoint = runpod.AsyncioEndpoint(plain["id"], session, api_key=KEY)
            job = await endpoint.run({"do": "echo"})
            output = await job.output(timeout=30)
            slow = await endpoint.run({"do": "sleep", "seconds": 1})
            return output, await slow.cancel(), await endpoint.health()

    output, cancelled, health = asyncio.run(ask())
    assert output == {"do": "echo"}
    assert cancelled["status"] == "CANCELLED"
    assert "inQueue" in health["jobs"]


def test_an_error_is_what_the_worker_says(shared: Platform, plain: dict[str, Any]) -> None:
    jobs = shared.jobs(plain)
    raised = jobs.post("/runsync", json={"input": {"do": "raise", "text": "no luck"}}).json()
    assert raised["status"] == "FAILED"
    assert '"error_message": "no luck"' in raised["error"]
    returned = jobs.post("/runsync", json={"input": {"do": "return", "value": {"error": "no"}}}).json()
    assert (returned["status"], returned["error"]) == ("FAILED", "no")


def test_a_worker_has_the_platforms_variables_and_not_the_accounts_key(
    shared: Platform, plain: dict[str, Any]
) -> None:
    output = shared.jobs(plain).post("/runsync", json={"input": {"do": "environment"}}).json()["output"]
    worker_id = shared.workers(plain)[0]["id"]
    assert (output["RUNPOD_POD_ID"], output["RUNPOD_ENDPOINT_ID"]) == (worker_id, plain["id"])
    assert output["RUNPOD_WEBHOOK_GET_JOB"] == (
        f"{shared.cloud.jobs}/{plain['id']}/job-take/$ID?gpu=NVIDIA+RTX+A5000"
    )
    assert KEY not in output.values()
    stolen = {"Authorization": f"Bearer {output['RUNPOD_AI_API_KEY']}"}
    for url in (f"{shared.cloud.jobs}/{plain['id']}/health", f"{shared.cloud.endpoint}/serverless"):
        assert httpx.get(url, headers=stolen, trust_env=False).status_code == 401


def test_a_cancelled_job_is_stopped_in_the_worker_and_the_others_go_on(
    shared: Platform, plain: dict[str, Any]
) -> None:
    endpoint = runpod.Endpoint(plain["id"], api_key=KEY)
    stays, goes = endpoint.run({"do": "sleep", "seconds": 2}), endpoint.run({"do": "sleep", "seconds": 60})
    wait_until(lambda: f"begun {goes.job_id}" in _log(shared, plain), "the job runs")
    assert goes.cancel()["status"] == "CANCELLED"
    wait_until(lambda: f"cancelled {goes.job_id}" in _log(shared, plain), "the worker stops it")
    assert stays.output(timeout=30) == {"slept": 2}
    assert goes.status() == "CANCELLED"


def test_progress_is_seen_before_the_result(shared: Platform, plain: dict[str, Any]) -> None:
    jobs = shared.jobs(plain)
    job_id = jobs.post("/run", json={"input": {"do": "progress", "seconds": 0.5}}).json()["id"]
    wait_until(lambda: job_status(jobs, job_id).get("output") == "half way", "progress is shown")
    assert job_status(jobs, job_id)["status"] == "IN_PROGRESS"
    wait_until(lambda: job_status(jobs, job_id)["status"] == "COMPLETED", "the job is done")
    assert job_status(jobs, job_id)["output"] == "all the way"


def test_a_client_streams(generator: dict[str, Any]) -> None:
    endpoint = runpod.Endpoint(generator["id"], api_key=KEY)
    pieces = ["a", {"b": 1}, "c", "d"]
    job = endpoint.run({"pieces": pieces, "every": 0.4})
    assert list(job.stream()) == pieces
    assert job.output() == pieces


def test_an_openai_answer_is_the_workers_body(shared: Platform, generator: dict[str, Any]) -> None:
    jobs = shared.jobs(generator)
    models = jobs.get("/openai/v1/models")
    assert (models.status_code, models.json()) == (200, {"openai_route": "/v1/models"})
    body = {"model": "m", "pieces": [{"object": "chat.completion"}]}
    answer = jobs.post("/openai/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()) == (200, {"object": "chat.completion"})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ('{"message": "no such model", "type": "NotFoundError", "code": 404}', 404, "no such model"),
        ('{"error": {"message": "too long", "code": 400}}', 400, "too long"),
        ("the engine is gone", 500, "the engine is gone"),
    ],
)
def test_an_openai_error_keeps_the_status_that_it_names(
    shared: Platform, generator: dict[str, Any], error: str, status: int, message: str, streamed: bool
) -> None:
    answer = shared.jobs(generator).post(
        "/openai/v1/completions", json={"stream": streamed, "pieces": [{"error": error}]}
    )
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, message)


def test_openai_events_arrive_as_they_come(shared: Platform, generator: dict[str, Any]) -> None:
    pieces = ["data: 1\n\ndata: 2\n", "\n", {"three": 3}, "data: [DONE]\n\n"]
    body = {"stream": True, "pieces": [*pieces[:-1], "data: [DONE]\n\n"], "every": 0.3}
    parts: list[str] = []
    with shared.jobs(generator).stream("POST", "/openai/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts.extend(answer.iter_text())
    assert "".join(parts) == 'data: 1\n\ndata: 2\n\ndata: {"three": 3}\n\ndata: [DONE]\n\n'
    assert len(parts) == 4


def test_an_openai_stream_that_fails_ends_with_the_error(shared: Platform, generator: dict[str, Any]) -> None:
    body = {"stream": True, "pieces": ["data: 1\n\n", {"error": "gone"}], "every": 0.5}
    answer = shared.jobs(generator).post("/openai/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.text.startswith("data: 1\n\ndata: ")
    assert '"message": "gone"' in answer.text


def test_a_wrong_key_is_said_by_the_sdk(plain: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="401 Unauthorized"):
        runpod.Endpoint(plain["id"], api_key="wrong").health()


def test_jobs_run_side_by_side_in_one_worker(shared: Platform, plain: dict[str, Any]) -> None:
    endpoint = runpod.Endpoint(plain["id"], api_key=KEY)
    outputs: list[Any] = []

    def ask() -> None:
        outputs.append(endpoint.run_sync({"do": "sleep", "seconds": 1.5}, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: shared.jobs(plain).get("/health").json()["jobs"]["inProgress"] >= 3, "they run together"
    )
    for thread in threads:
        thread.join()
    assert outputs == [{"slept": 1.5}] * 4
