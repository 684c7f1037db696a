"""What workers cost: the meter that counts their time, and REST v2's bill of it in buckets of time."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import JSONResponse, Response

from sandbox.runpod import catalogue, query
from sandbox.runpod.endpoints import timestamp
from sandbox.runpod.problems import bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.store import Store

    Size = Literal["hour", "day", "week", "month", "year"]

_MONTH_SECONDS = 30 * 86_400
_DISK_STEP_SECONDS = 300
_DEFAULT_WINDOW = timedelta(days=30)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_AMOUNTS = ("gpuAmount", "cpuAmount", "diskAmount", "feeAmount")


@dataclass(frozen=True)
class Run:
    """One worker's time, from its start until it has fully stopped, and its prices.

    Args:
        endpoint_id: whose worker it was.
        start, end: seconds since 1970.
        gpu, cpu, disk: US dollars a second.
    """

    endpoint_id: str
    start: float
    end: float
    gpu: float
    cpu: float
    disk: float


class Meter:
    """Counts the time of workers.

    Args:
        store: where ended runs are kept.
        clock: the platform's time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, Run] = {}

    def start(self, worker_id: str, endpoint: dict[str, Any], gpu_type: str | None) -> None:
        """Count a worker from now on.

        Args:
            worker_id: the worker's.
            endpoint: as the API shows it.
            gpu_type: what the worker runs on; None for CPUs.
        """
        gpu = catalogue.gpu_type(gpu_type) if gpu_type else None
        now = self._clock.now().timestamp()
        self._running[worker_id] = Run(
            endpoint_id=endpoint["id"],
            start=now,
            end=now,
            gpu=gpu.usd_per_second * endpoint["gpu"]["count"] if gpu else 0.0,
            cpu=0.0 if gpu else endpoint["cpu"][0]["vcpuCount"] * catalogue.USD_PER_VCPU_HOUR / 3600,
            disk=endpoint["disk"] * catalogue.USD_PER_DISK_GB_MONTH / _MONTH_SECONDS,
        )

    def stop(self, worker_id: str) -> None:
        """Count a worker no longer; does nothing if it is not counted."""
        run = self._running.pop(worker_id, None)
        if run is not None:
            self._store.runs.append(dataclasses.asdict(self._until_now(run)))
            self._store.save()

    def runs(self) -> Iterator[Run]:
        """Yield every run, those of workers that still run until now."""
        yield from (Run(**run) for run in self._store.runs)
        yield from map(self._until_now, self._running.values())

    def _until_now(self, run: Run) -> Run:
        return dataclasses.replace(run, end=self._clock.now().timestamp())


class Billing:
    """The route of the bill.

    Args:
        meter: what is billed.
        clock: the platform's time.
    """

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock

    async def list_all(self, request: Request) -> Response:
        """GET /billing/serverless: a record for each endpoint and bucket in which one of its workers ran."""
        asked = query.parse(query.BillingQuery, request)
        start, end = _window(asked, self._clock.now())
        amounts: dict[tuple[datetime, str], dict[str, float]] = defaultdict(
            lambda: dict.fromkeys(_AMOUNTS, 0.0)
        )
        for run in self._meter.runs():
            if asked.serverlessId in (None, run.endpoint_id):
                _spread(run, asked.bucketSize, amounts)
        listed = sorted(item for item in amounts.items() if start <= item[0][0] < end)
        records = [
            {
                "startTime": timestamp(bucket),
                "endTime": timestamp(_next(bucket, asked.bucketSize)),
                "serverlessId": endpoint_id,
                **_rounded(parts),
            }
            for (bucket, endpoint_id), parts in listed
        ]
        totals = {name: math.fsum(parts[name] for _, parts in listed) for name in _AMOUNTS}
        return JSONResponse(
            {
                "records": records,
                "metadata": {
                    "query": {
                        "startTime": timestamp(start),
                        "endTime": timestamp(end),
                        "bucketSize": asked.bucketSize,
                        "serverlessId": asked.serverlessId,
                    },
                    "recordCount": len(records),
                    "uniqueServerlessCount": len({endpoint_id for (_, endpoint_id), _ in listed}),
                    "totals": _rounded(totals),
                },
            }
        )


def _window(asked: query.BillingQuery, now: datetime) -> tuple[datetime, datetime]:
    """Return the period asked for, on boundaries of its buckets.

    Raises:
        Problem: it contradicts itself.
    """
    size = asked.bucketSize
    if asked.lastN is not None:
        if asked.startTime or asked.endTime:
            raise bad_request("lastN and startTime/endTime are mutually exclusive")
        current = _floor(now, size)
        return _back(current, size, asked.lastN - 1), _next(current, size)
    end = _utc(asked.endTime or now)
    start = _floor(_utc(asked.startTime or now - _DEFAULT_WINDOW), size)
    if start >= end:
        raise bad_request("startTime must be before endTime")
    bucket = _floor(end, size)
    return start, end if bucket == end else _next(bucket, size)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST if moment.year == 1 else _LAST


def _floor(moment: datetime, size: Size) -> datetime:
    """Return the beginning of the bucket that a moment, in UTC, is in."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if size == "hour":
        return hour
    day = hour.replace(hour=0)
    if size == "week":
        return day - timedelta(days=day.weekday())
    if size == "day":
        return day
    return day.replace(day=1) if size == "month" else day.replace(month=1, day=1)


def _next(bucket: datetime, size: Size) -> datetime:
    """Return the end of a bucket, given its beginning."""
    # As long as the longest of its size leads into the next one from the beginning of every bucket.
    longest = {"hour": 1 / 24, "day": 1, "week": 7, "month": 31, "year": 366}[size]
    try:
        return _floor(bucket + timedelta(days=longest), size)
    except OverflowError:
        return _LAST


def _back(bucket: datetime, size: Size, count: int) -> datetime:
    """Return the beginning of the bucket that is so many before one; none is before the first year."""
    try:
        if size == "year":
            return bucket.replace(year=bucket.year - count)
        if size == "month":
            year, month = divmod(bucket.year * 12 + bucket.month - 1 - count, 12)
            return bucket.replace(year=year, month=month + 1)
        return bucket - count * timedelta(**{f"{size}s": 1})
    except (ValueError, OverflowError):
        return _FIRST


def _spread(run: Run, size: Size, amounts: dict[tuple[datetime, str], dict[str, float]]) -> None:
    """Add a run's cost to the buckets that it ran in; disks are billed in steps of five minutes."""
    disk_end = run.start + math.ceil((run.end - run.start) / _DISK_STEP_SECONDS) * _DISK_STEP_SECONDS
    bucket = _floor(datetime.fromtimestamp(run.start, UTC), size)
    while bucket.timestamp() < max(run.end, disk_end):
        until = _next(bucket, size)

        def seconds(end: float, bucket: datetime = bucket, until: datetime = until) -> float:
            return max(min(end, until.timestamp()) - max(run.start, bucket.timestamp()), 0.0)

        parts = amounts[bucket, run.endpoint_id]
        parts["gpuAmount"] += seconds(run.end) * run.gpu
        parts["cpuAmount"] += seconds(run.end) * run.cpu
        parts["diskAmount"] += seconds(disk_end) * run.disk
        bucket = until


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {
        "totalAmount": round(math.fsum(parts.values()), 6),
        **{name: round(amount, 6) for name, amount in parts.items()},
    }
