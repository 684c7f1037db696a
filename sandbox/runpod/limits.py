"""What the platform allows: on load-balancer endpoints, on workers, on jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The platform's limits on load-balancer endpoints, and on the workers of both types.

    Args:
        wait_seconds: how long a request waits for a worker.
        request_seconds: how long it may take in all.
        payload_bytes: of a request, and of a response.
        init_seconds: how long a worker may take until it is ready.
        retry_seconds: after workers failed to start, how long until a request makes the platform try again.
    """

    wait_seconds: float = 120.0
    request_seconds: float = 330.0
    payload_bytes: int = 30 * 1000 * 1000
    init_seconds: float = 420.0
    retry_seconds: float = 30.0


@dataclass(frozen=True)
class Rate:
    """How often one operation of one endpoint may be asked for.

    Args:
        requests: in ten seconds.
        concurrent: at one time; None for any number.
    """

    requests: int
    concurrent: int | None


_RATES = MappingProxyType(
    {
        "run": Rate(1000, 200),
        "runsync": Rate(2000, 400),
        "status": Rate(2000, 400),
        "stream": Rate(2000, 400),
        "openai": Rate(2000, 400),
        "cancel": Rate(100, 20),
        "purge-queue": Rate(2, None),
        "requests": Rate(10, 2),
    }
)


@dataclass(frozen=True)
class JobLimits:
    """The platform's limits on jobs.

    Args:
        run_bytes: of a request to `run`.
        sync_bytes: of a request to `runsync` or an OpenAI route, and of a result.
        chunk_bytes: of one piece of a stream.
        poll_seconds: how long a worker's question for work is held.
        answer_seconds: after which a client that has had no byte of an answer gets a 524.
        run_kept_seconds: how long the result of `run` is kept.
        sync_kept_seconds: how long that of `runsync` is kept; as long as `wait`, where that is longer.
        ttl_seconds: a job's whole life where it asks for none.
        retries: how often a job whose worker is lost is given to another.
        rates: by operation; one that is not named has none.
    """

    run_bytes: int = 10 * _MIB
    sync_bytes: int = 20 * _MIB
    chunk_bytes: int = _MIB
    poll_seconds: float = 5.0
    answer_seconds: float = 100.0
    run_kept_seconds: float = 1800.0
    sync_kept_seconds: float = 60.0
    ttl_seconds: float = 86_400.0
    retries: int = 1
    rates: Mapping[str, Rate] = field(default_factory=lambda: _RATES)
