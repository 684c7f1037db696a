"""The bill from outside: workers' seconds times their price, in the buckets that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import Platform, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_SECONDS = 3600
L4_USD = 0.00019
DISK_USD = 20 * 0.10 / (30 * 86_400)


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Platform]:
    """A platform with an hour in a second."""
    platform = start_platform(
        tmp_path / "runpod", speed=HOUR_SECONDS, wait_seconds=1e6, init_seconds=1e6, request_seconds=1e6
    )
    platform.delegate()
    yield platform
    platform.cloud.stop()


def _bill(platform: Platform, query: str = "") -> Any:
    response = platform.api.get(f"/billing/serverless?{query}")
    assert response.status_code == 200, response.text
    return response.json()


def _run_a_worker(platform: Platform, seconds: float, **changes: Any) -> dict[str, Any]:
    """Make an endpoint, have its worker run for some time of the platform, and return both."""
    endpoint = platform.create(workers={"min": 1, "max": 1}, **changes)

    def old_enough() -> bool:
        workers = platform.workers(endpoint)
        return bool(workers) and (workers[0]["uptimeSeconds"] or 0) >= seconds

    wait_until(old_enough, f"a worker has run for {seconds} s")
    return endpoint


def test_nothing_ran_nothing_is_owed(own_platform: Platform) -> None:
    own_platform.delegate()
    own_platform.create()
    bill = _bill(own_platform)
    assert bill["records"] == []
    assert bill["metadata"]["totals"]["totalAmount"] == 0
    assert bill["metadata"]["recordCount"] == bill["metadata"]["uniqueServerlessCount"] == 0


def test_a_worker_costs_its_seconds_in_every_bucket_that_it_ran_in(fast: Platform) -> None:
    endpoint = _run_a_worker(fast, 1.5 * HOUR_SECONDS)
    fast.api.patch(f"/serverless/{endpoint['id']}", json={"workers": {"min": 0, "max": 0}})
    wait_until(lambda: not fast.workers(endpoint), "the worker is gone")
    bill = _bill(fast, "bucketSize=hour")
    records, totals = bill["records"], bill["metadata"]["totals"]
    assert len(records) >= 2
    assert {record["serverlessId"] for record in records} == {endpoint["id"]}
    assert [record["startTime"][14:] for record in records] == ["00:00Z"] * len(records)
    assert [record["endTime"] for record in records[:-1]] == [record["startTime"] for record in records[1:]]
    # Hours that it ran from beginning to end.
    for record in records[1:-1]:
        assert record["gpuAmount"] == pytest.approx(HOUR_SECONDS * L4_USD, abs=1e-6)
        assert record["diskAmount"] == pytest.approx(HOUR_SECONDS * DISK_USD, abs=1e-6)
    assert totals["gpuAmount"] == pytest.approx(sum(record["gpuAmount"] for record in records), abs=1e-5)
    assert totals["gpuAmount"] >= 1.5 * HOUR_SECONDS * L4_USD
    assert totals["totalAmount"] == pytest.approx(totals["gpuAmount"] + totals["diskAmount"], abs=1e-5)
    assert totals["cpuAmount"] == totals["feeAmount"] == 0
    # What has stopped costs no more.
    assert _bill(fast, "bucketSize=hour")["records"] == records
    yearly = _bill(fast, "bucketSize=year&lastN=2")
    assert sum(record["gpuAmount"] for record in yearly["records"]) == pytest.approx(
        totals["gpuAmount"], abs=1e-5
    )


def test_a_running_worker_costs_more_by_the_minute_and_cpus_have_their_own_price(fast: Platform) -> None:
    endpoint = _run_a_worker(fast, 60, gpu=None, cpu=[{"id": "cpu5c", "vcpuCount": 4}])
    first = _bill(fast)["metadata"]["totals"]
    assert first["gpuAmount"] == 0
    assert first["cpuAmount"] >= 60 * 4 * 0.03 / HOUR_SECONDS

    wait_until(
        lambda: _bill(fast)["metadata"]["totals"]["cpuAmount"] > first["cpuAmount"], "the bill has grown"
    )
    assert _bill(fast, f"serverlessId={endpoint['id']}")["metadata"]["uniqueServerlessCount"] == 1
    other = _bill(fast, "serverlessId=other")
    assert (other["records"], other["metadata"]["query"]["serverlessId"]) == ([], "other")


def test_the_bill_outlives_the_endpoint_and_the_platform(fast: Platform, tmp_path: Path) -> None:
    endpoint = _run_a_worker(fast, 60)
    fast.api.delete(f"/serverless/{endpoint['id']}")
    before = _bill(fast, "bucketSize=year")["records"]
    assert before[0]["serverlessId"] == endpoint["id"]
    fast.cloud.stop()
    again = start_platform(tmp_path / "runpod")
    try:
        assert _bill(again, "bucketSize=year")["records"] == before
    finally:
        again.cloud.stop()


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        (
            "startTime=2026-03-04T05:06:07Z&endTime=2026-03-04T05:06:08Z",
            "2026-03-04T00:00:00Z",
            "2026-03-05T00:00:00Z",
        ),
        (
            "startTime=2026-03-04T05:06:07Z&endTime=2026-03-05T00:00:00Z&bucketSize=hour",
            "2026-03-04T05:00:00Z",
            "2026-03-05T00:00:00Z",
        ),
        (
            "startTime=2026-03-04T23:00:00-02:00&endTime=2026-03-08T00:00:01Z&bucketSize=week",
            "2026-03-02T00:00:00Z",
            "2026-03-09T00:00:00Z",
        ),
        (
            "startTime=2024-02-29T00:00:00Z&endTime=2024-12-31T12:00:00Z&bucketSize=month",
            "2024-02-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
        ),
        (
            "startTime=2024-02-29T00:00:00Z&endTime=2024-12-31T12:00:00Z&bucketSize=year",
            "2024-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
        ),
    ],
)
def test_the_window_is_on_boundaries_of_its_buckets(
    platform: Platform, query: str, start: str, end: str
) -> None:
    asked = _bill(platform, query)["metadata"]["query"]
    assert (asked["startTime"], asked["endTime"]) == (start, end)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("lastN=3&startTime=2026-03-04T05:06:07Z", 400),
        ("startTime=2026-03-05T00:00:00Z&endTime=2026-03-04T00:00:00Z", 400),
        ("lastN=0", 422),
        ("bucketSize=minute", 422),
        ("startTime=yesterday", 422),
        ("startTime=1772600767", 422),
        ("endTime=2026-02-30T00:00:00Z", 422),
    ],
)
def test_a_query_that_cannot_be_is_refused(platform: Platform, query: str, status: int) -> None:
    assert platform.api.get(f"/billing/serverless?{query}").status_code == status
