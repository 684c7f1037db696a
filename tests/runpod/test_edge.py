"""The load balancer and its workers from outside: from zero and back, streaming, releases, and failures."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.runpod.conftest import OTHER_IMAGE, Platform, body, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hasty_platform(tmp_path: Path) -> Iterator[Platform]:
    """Yield a platform whose limits are short: a second for a worker, and half of one for its answer."""
    platform = start_platform(
        tmp_path / "runpod",
        wait_seconds=10.0,
        request_seconds=15.0,
        payload_bytes=2_000_000,
        retry_seconds=5.0,
        speed=10.0,
    )
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


@pytest.fixture
def brisk_platform(tmp_path: Path) -> Iterator[Platform]:
    """Yield a platform on which ten seconds pass in one."""
    platform = start_platform(tmp_path / "runpod", speed=10.0)
    platform.delegate()
    yield platform
    platform.cloud.stop()
    assert platform.launcher.alive() == 0


def _environment(**changes: str) -> dict[str, str]:
    env: dict[str, str] = {**body()["env"], **changes}
    return env


def _log(platform: Platform, endpoint: dict[str, Any], worker_id: str, **query: Any) -> list[str]:
    """Read the log of a worker until the stream pauses."""
    lines = []
    url = f"/serverless/{endpoint['id']}/workers/{worker_id}/logs"
    try:
        with platform.api.stream("GET", url, params=query, timeout=0.5) as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                if line.startswith("data:"):
                    lines.append(line)  # noqa: PERF401  # what came before the pause is kept
    except httpx.ReadTimeout:
        pass
    return lines


def test_the_first_request_starts_a_worker_from_the_endpoints_settings(platform: Platform) -> None:
    made = platform.create(args="model --name 'two words'", env=_environment(SETTING="x"))
    assert platform.workers(made) == []
    answer = platform.edge(made).get("/v1/models", params={"limit": 2})
    assert answer.status_code == 200
    seen = answer.json()
    assert seen["path"] == "/v1/models?limit=2"
    assert seen["args"] == ["model", "--name", "two words"]
    (worker,) = platform.workers(made)
    assert seen["env"] == {"PORT": "8000", "RUNPOD_POD_ID": worker["id"], "SETTING": "x"}
    assert "authorization" not in {name.lower() for name in seen["headers"]}
    assert (worker["status"], worker["isStale"], worker["gpuTypeId"]) == ("IDLE", False, "NVIDIA RTX A5000")
    assert answer.headers["x-runpod-worker-id"] == worker["id"]


@pytest.mark.parametrize("header", [None, "Bearer wrong"])
def test_the_edge_asks_for_the_key_and_wakes_no_worker_without(
    platform: Platform, header: str | None
) -> None:
    made = platform.create()
    url = made["requestUrls"]["base"] + "/v1/models"
    headers = {"Authorization": header} if header else {}
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 401
    assert platform.workers(made) == []


def test_an_unknown_endpoint_is_404(platform: Platform) -> None:
    made = platform.create()
    base = made["requestUrls"]["base"].replace(made["id"], "nothing")
    headers = platform.api.headers
    response = httpx.get(
        f"{base}/v1/models", headers={"Authorization": headers["Authorization"]}, trust_env=False
    )
    assert response.status_code == 404


def test_a_stream_arrives_event_by_event(platform: Platform) -> None:
    made = platform.create()
    with platform.edge(made).stream("GET", "/stream?n=4&every=0.2") as response:
        times = [time.monotonic() for line in response.iter_lines() if line]
    assert len(times) == 4
    assert times[-1] - times[0] > 0.4
    assert all(later - earlier > 0.05 for earlier, later in pairwise(times))


def test_a_request_body_is_streamed(platform: Platform) -> None:
    made = platform.create()

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 100_000

    edge = platform.edge(made)
    assert edge.post("/upload", content=chunks()).json() == {"received": 500_000}
    assert edge.post("/upload", content=b"x" * 1000).json() == {"received": 1000}


def test_a_client_that_leaves_is_gone_for_the_worker_too(platform: Platform) -> None:
    made = platform.create()
    with platform.edge(made).stream("GET", "/stream?n=1000&every=0.02") as response:
        lines = response.iter_lines()
        next(lines)
        assert [worker["status"] for worker in platform.workers(made)] == ["RUNNING"]
    (container,) = platform.launcher.running
    wait_until((container.directory / "client-gone").exists, "the worker notices")
    wait_until(lambda: platform.workers(made)[0]["status"] == "IDLE", "the worker is free")


def test_a_client_that_leaves_while_it_waits_frees_its_place(brisk_platform: Platform) -> None:
    made = brisk_platform.create(
        env=_environment(FAKE_LOADING_SECONDS="0.6"), workers={"max": 1, "idleTimeout": 1}
    )
    with pytest.raises(httpx.ReadTimeout):
        brisk_platform.edge(made).get("/v1/models", timeout=0.3)
    wait_until(lambda: brisk_platform.workers(made) == [], "the worker that nobody waits for is scaled down")


def test_a_worker_is_initializing_until_its_health_says_200(platform: Platform) -> None:
    made = platform.create(env=_environment(FAKE_LOADING_SECONDS="1.0"))
    with ThreadPoolExecutor() as pool:
        begin = time.monotonic()
        answer = pool.submit(platform.edge(made).get, "/v1/models")
        wait_until(lambda: platform.workers(made), "a worker is started")
        assert platform.workers(made)[0]["status"] == "INITIALIZING"
        assert answer.result().status_code == 200
        assert time.monotonic() - begin >= 1.0


def test_more_requests_get_more_workers_and_idle_ones_go(brisk_platform: Platform) -> None:
    made = brisk_platform.create(
        workers={"min": 0, "max": 2, "idleTimeout": 5}, scaling={"type": "REQUEST_COUNT", "requestCount": 2}
    )
    with ThreadPoolExecutor(8) as pool:
        requests = [pool.submit(brisk_platform.edge(made).get, "/slow?seconds=0.7") for _ in range(8)]
        wait_until(lambda: len(brisk_platform.workers(made)) == 2, "two workers")
        assert {request.result().status_code for request in requests} == {200}
    assert len(brisk_platform.launcher.launches) == 2
    wait_until(lambda: brisk_platform.workers(made) == [], "no worker is left")
    assert brisk_platform.launcher.alive() == 0
    assert brisk_platform.edge(made).get("/v1/models").status_code == 200


def test_min_workers_are_started_at_once_and_stay(brisk_platform: Platform) -> None:
    made = brisk_platform.create(workers={"min": 1, "max": 1, "idleTimeout": 1})
    wait_until(lambda: [w["status"] for w in brisk_platform.workers(made)] == ["IDLE"], "the worker is ready")
    other = brisk_platform.create(name="other", workers={"min": 0, "max": 1, "idleTimeout": 1})
    assert brisk_platform.edge(other).get("/v1/models").status_code == 200
    wait_until(lambda: brisk_platform.workers(other) == [], "a younger one has rested for too long")
    assert len(brisk_platform.workers(made)) == 1
    brisk_platform.api.patch(f"/serverless/{made['id']}", json={"workers": {"min": 0}})
    wait_until(lambda: brisk_platform.workers(made) == [], "it goes when min is lowered")


def test_a_release_replaces_idle_workers_at_once_and_busy_ones_after_their_request(
    platform: Platform,
) -> None:
    made = platform.create()
    edge = platform.edge(made)
    with ThreadPoolExecutor() as pool:
        old = pool.submit(edge.get, "/slow?seconds=1.5")
        wait_until(lambda: [w["status"] for w in platform.workers(made)] == ["RUNNING"], "the request runs")
        first = platform.workers(made)[0]["id"]
        platform.api.patch(f"/serverless/{made['id']}", json={"image": OTHER_IMAGE, "args": "other"})
        stale = {w["id"]: w["isStale"] for w in platform.workers(made)}
        assert stale[first]
        assert edge.get("/v1/models").json()["args"] == ["other"]
        assert not old.done()
        assert old.result().json() == {"slept": True}
    wait_until(lambda: len(platform.workers(made)) == 1, "the stale worker goes")
    second = platform.workers(made)[0]
    assert (second["isStale"], second["image"], second["version"]) == (False, OTHER_IMAGE, 2)
    platform.api.patch(f"/serverless/{made['id']}", json={"workers": {"max": 2}})
    assert platform.workers(made)[0]["id"] == second["id"]
    platform.api.patch(f"/serverless/{made['id']}", json={"env": _environment(SETTING="new")})
    wait_until(lambda: platform.workers(made) == [], "the idle worker goes at once")
    assert edge.get("/x").json()["env"]["SETTING"] == "new"


def test_a_worker_that_cannot_start_is_given_up_soon_and_its_log_says_why(brisk_platform: Platform) -> None:
    made = brisk_platform.create(args="model --refuse")
    begin = time.monotonic()
    answer = brisk_platform.edge(made).get("/v1/models")
    assert time.monotonic() - begin < 8
    assert answer.status_code == 502
    (worker,) = brisk_platform.workers(made)
    assert worker["status"] == "UNHEALTHY"
    assert f"worker {worker['id']} is unhealthy" in answer.json()["error"]
    assert f"/v2/serverless/{made['id']}/workers/{worker['id']}/logs" in answer.json()["error"]
    lines = "\n".join(_log(brisk_platform, made, worker["id"]))
    assert lines.count("error: unrecognized arguments: --refuse") == 3
    assert "container exited with status 2" in lines
    assert "given up after 3 starts" in lines
    begin = time.monotonic()
    assert brisk_platform.edge(made).get("/v1/models").status_code == 502
    assert time.monotonic() - begin < 1
    brisk_platform.api.patch(f"/serverless/{made['id']}", json={"args": "model"})
    assert brisk_platform.edge(made).get("/v1/models").status_code == 200


def test_after_a_while_a_failed_start_is_tried_again(hasty_platform: Platform) -> None:
    hasty_platform.launcher.refusal = "image cannot be pulled: 401"
    made = hasty_platform.create(workers={"min": 1, "max": 1})
    wait_until(lambda: "UNHEALTHY" in {w["status"] for w in hasty_platform.workers(made)}, "given up")
    worker_id = hasty_platform.workers(made)[0]["id"]
    assert "image cannot be pulled: 401" in "\n".join(_log(hasty_platform, made, worker_id))
    hasty_platform.launcher.refusal = None
    wait_until(lambda: [w["status"] for w in hasty_platform.workers(made)] == ["IDLE"], "tried again")


def test_logs_come_with_source_tail_and_a_cursor(platform: Platform) -> None:
    made = platform.create()
    platform.edge(made).get("/v1/models")
    worker_id = platform.workers(made)[0]["id"]
    lines = _log(platform, made, worker_id)
    assert any("started with" in line and '"source": "container"' in line for line in lines)
    assert any("worker is ready" in line and '"source": "system"' in line for line in lines)
    assert all('"system"' in line for line in _log(platform, made, worker_id, source="system"))
    assert len(_log(platform, made, worker_id, tail=1)) == 1
    assert _log(platform, made, worker_id, tail=0) == []
    url = f"/serverless/{made['id']}/workers/{worker_id}/logs"
    assert platform.api.get(url, params={"tail": "many"}).status_code == 422
    assert platform.api.get(url.replace(worker_id, "nobody")).status_code == 404
    with platform.api.stream("GET", url) as response:
        ids = [line.removeprefix("id: ") for line, _ in zip(response.iter_lines(), range(4), strict=False)]
    with platform.api.stream("GET", url, headers={"Last-Event-ID": ids[0]}) as response:
        assert next(response.iter_lines()).removeprefix("id: ") == ids[3]


def test_a_worker_that_dies_is_an_error_for_its_requests_and_is_started_again(
    brisk_platform: Platform,
) -> None:
    made = brisk_platform.create()
    edge = brisk_platform.edge(made)
    worker = edge.get("/v1/models").headers["x-runpod-worker-id"]
    broken = edge.get("/exit?status=3")
    assert broken.status_code == 502
    assert "error" in broken.json()
    again = edge.get("/v1/models")
    assert (again.status_code, again.headers["x-runpod-worker-id"]) == (200, worker)
    assert "container exited with status 3" in "\n".join(_log(brisk_platform, made, worker))


def test_limits_of_the_platform(hasty_platform: Platform) -> None:
    made = hasty_platform.create(env=_environment(FAKE_LOADING_SECONDS="0"))
    edge = hasty_platform.edge(made)
    assert edge.get("/v1/models").status_code == 200
    assert edge.post("/upload", content=b"x" * 2_000_001).status_code == 413
    assert edge.post("/upload", content=(b"x" * 500_000 for _ in range(5))).status_code == 413
    slow = edge.get("/slow?seconds=3")
    assert (slow.status_code, slow.json()["error"]) == (504, "request took longer than 15 s")
    with edge.stream("GET", "/stream?n=100&every=0.1") as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()


def test_a_request_waits_only_so_long_for_a_worker(hasty_platform: Platform) -> None:
    made = hasty_platform.create(env=_environment(FAKE_LOADING_SECONDS="60"))
    answer = hasty_platform.edge(made).get("/v1/models")
    assert (answer.status_code, answer.json()) == (400, {"error": "timed out waiting for worker"})


def test_a_health_port_that_answers_while_the_server_does_not_is_502(platform: Platform) -> None:
    made = platform.create(args="--no-server")
    assert platform.edge(made).get("/v1/models").status_code == 502


def test_delete_stops_workers_and_answers_those_who_wait(platform: Platform) -> None:
    made = platform.create(env=_environment(FAKE_LOADING_SECONDS="60"))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(platform.edge(made).get, "/v1/models")
        wait_until(lambda: platform.launcher.alive() == 1, "a worker starts")
        assert platform.api.delete(f"/serverless/{made['id']}").status_code == 204
        assert waiting.result(timeout=5).status_code == 404
    assert platform.launcher.alive() == 0
    assert not any(launch.log_path.parent.exists() for launch in platform.launcher.launches)


def test_stopping_the_platform_does_not_wait_for_clients(tmp_path: Path) -> None:
    platform = start_platform(tmp_path / "runpod")
    platform.delegate()
    made = platform.create()
    started = threading.Event()

    def read() -> None:
        try:
            with platform.edge(made).stream("GET", "/stream?n=1000&every=0.05") as response:
                for _ in response.iter_lines():
                    started.set()
        except httpx.HTTPError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(10)
    begin = time.monotonic()
    platform.cloud.stop()
    assert time.monotonic() - begin < 8
    assert platform.launcher.alive() == 0
    reader.join(10)
    assert not reader.is_alive()
