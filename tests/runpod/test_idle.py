"""The platform's own scale-down of endpoints that nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runpod.conftest import ECHO, Platform, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOUR_DAYS_SECONDS = 4 * 86_400
CPU = {"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 2}]}


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Platform]:
    """A platform with four days in a second, and containers that never start."""
    platform = start_platform(tmp_path / "runpod", speed=FOUR_DAYS_SECONDS)
    platform.delegate()
    platform.launcher.refusal = "not now"
    yield platform
    platform.cloud.stop()


def _limits(platform: Platform, endpoint_id: str) -> tuple[int, int]:
    workers = platform.api.get(f"/serverless/{endpoint_id}").json()["workers"]
    return workers["min"], workers["max"]


def test_an_idle_endpoint_loses_its_workers_in_two_steps_and_a_used_one_keeps_them(fast: Platform) -> None:
    idle = fast.create_queue(workers={"min": 3, "max": 3})["id"]
    used = fast.create_queue(workers={"min": 1, "max": 2}, **CPU)
    jobs = fast.jobs(used)
    seen = [(3, 3)]

    def taken_away() -> bool:
        assert jobs.post("/run", json=ECHO).status_code == 200
        limits = _limits(fast, idle)
        if limits != seen[-1]:
            seen.append(limits)
        return limits == (0, 0)

    wait_until(taken_away, "the idle endpoint has no workers", seconds=30)
    assert seen == [(3, 3), (2, 2), (0, 0)]
    assert _limits(fast, used["id"]) == (1, 2)
    # It stays as it is until somebody raises it.
    assert _limits(fast, idle) == (0, 0)
    raised = fast.api.patch(f"/serverless/{idle}", json={"workers": {"max": 3}})
    assert raised.status_code == 200
    assert [_limits(fast, idle) for _ in range(10)] == [(0, 3)] * 10


def test_looking_at_an_endpoint_is_not_using_it(fast: Platform) -> None:
    endpoint = fast.create_queue(workers={"max": 3})
    jobs = fast.jobs(endpoint)

    def lowered() -> bool:
        assert jobs.get("/health").status_code == 200
        return _limits(fast, endpoint["id"]) == (0, 2)

    wait_until(lowered, "the endpoint is scaled down", seconds=30)
    releases = fast.api.get(f"/serverless/{endpoint['id']}/releases").json()
    assert releases["endpointVersion"] == 1
