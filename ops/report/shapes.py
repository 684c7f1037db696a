"""What the report reads of each kind of record. A record that lacks any of it is of another version."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Up(_Shape):
    """An `up`: see ops/change_records.py."""

    ok: bool
    problem: str | None
    begun_at: datetime
    duration_seconds: float
    asked: bool
    resources: dict[str, int] | None
    outputs: dict[str, Any]
    arguments: list[str]
    settings: dict[str, Any]


class Destroy(_Shape):
    """A `destroy`: see ops/change_records.py."""

    ok: bool
    problem: str | None
    begun_at: datetime
    duration_seconds: float
    asked: bool
    resources: dict[str, int] | None
    resources_before: dict[str, int] | None


class SmokeCheck(_Shape):
    """One thing that an endpoint was asked."""

    name: str
    ok: bool
    problem: str | None = None
    latency_seconds: float | None = None
    first_token_seconds: float | None = None
    completion_tokens: int | None = None
    tokens_per_second: float | None = None


class SmokeEndpoint(_Shape):
    """One endpoint."""

    platform: str
    ok: bool
    waited_seconds: float
    checks: list[SmokeCheck]


class Smoke(_Shape):
    """A `smoke`: see ops/commands/smoke.py."""

    ok: bool
    endpoints: list[SmokeEndpoint]
    kv_cache_tokens: dict[str, int | None]


class LeftFound(_Shape):
    """One thing that was found."""

    what: str
    id: str
    why: str
    hourly_usd: float | None
    goes_by_itself: str | None
    remove: str | None


class LeftUnseen(_Shape):
    """One kind that could not be looked at."""

    what: str
    why: str


class Leftovers(_Shape):
    """A look for leftovers: see ops/commands/leftovers.py."""

    account: str | None
    region: str
    found: list[LeftFound]
    looked_at: list[str]
    not_looked_at: list[LeftUnseen]

    @property
    def staying(self) -> list[LeftFound]:
        """What does not go by itself."""
        return [item for item in self.found if item.goes_by_itself is None]


class BenchWorkload(_Shape):
    """What an endpoint was asked to do."""

    concurrency: int
    prompt_tokens: list[int]
    output_tokens: int
    batch_size: int
    audio_seconds: int

    @property
    def kind(self) -> str:
        """What a request is like, however many there are at once."""
        lengths = "+".join(map(str, self.prompt_tokens))
        length = f"{lengths} tokens in" if lengths else f"{self.audio_seconds} s of sound"
        batch = f", {self.batch_size} inputs each" if self.batch_size > 1 else ""
        return f"{length}{f', {self.output_tokens} out' if self.output_tokens else ''}{batch}"


class BenchRow(_Shape):
    """What was measured of one workload; a server that did not start has none, and no answer no rates."""

    platform: str = "this machine"
    changes: dict[str, Any] = {}
    workload: BenchWorkload | None = None
    complete: bool = False
    answered: int
    best: bool = False
    errors: dict[str, int] = {}
    error_details: dict[str, str] = {}
    problem: str | None = None
    replicas: int | None = None
    usd_per_hour: float | None = None
    requests_per_second: float | None = None
    input_tokens_per_second: float | None = None
    output_tokens_per_second: float | None = None
    usd_per_million_tokens: float | None = None
    e2e_ms: dict[str, float] | None = None
    ttft_ms: dict[str, float] | None = None
    itl_ms: dict[str, float] | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Of prompts and answers together."""
        if self.input_tokens_per_second is None or self.output_tokens_per_second is None:
            return None
        return self.input_tokens_per_second + self.output_tokens_per_second


class Bench(_Shape):
    """A `bench`: see ops/bench. A sweep is of servers on this machine, not of an endpoint."""

    command: Literal["matrix", "sweep"]
    rows: list[BenchRow]


class LoadFailure(_Shape):
    """How often requests failed in one way."""

    count: int
    example: str


class LoadRequests(_Shape):
    """One kind of request at one endpoint."""

    platform: str
    kind: str
    requests: int
    failed: int
    failures: dict[str, LoadFailure]
    requests_per_second: float
    completion_tokens_per_second: float
    latency_ms: dict[str, float] | None
    first_token_ms: dict[str, float] | None
    prompt_tokens: int
    completion_tokens: int


class LoadSample(_Shape):
    """Two seconds at one endpoint."""

    seconds: float
    users: int
    requests_per_second: float
    failures_per_second: float
    completion_tokens_per_second: float
    latency_ms: dict[str, float] | None
    first_token_ms: dict[str, float] | None


class LoadEngineSample(_Shape):
    """What vLLM, or a queue, said of itself; a queue has no cache."""

    seconds: float
    running: float
    waiting: float
    kv_cache_usage: float | None = None


class LoadEngine(_Shape):
    """One pod, worker or queue."""

    platform: str
    engine: str
    samples: list[LoadEngineSample]


class LoadEngineProblem(_Shape):
    """What could not be read, and how often."""

    platform: str
    problem: str
    count: int


class LoadSender(_Shape):
    """How busy the process was that sent the requests."""

    cpu_percent: float


class LoadCost(_Shape):
    """What the machines behind an endpoint cost."""

    platform: str
    what: str
    usd_per_hour_least: float | None
    usd_per_hour_most: float | None
    source: str


class LoadMix(_Shape):
    """The kinds of prompts."""

    name: str
    parts: list[str]


class Load(_Shape):
    """A `load`: see ops/load/record.py."""

    users: int
    ramp_seconds: float
    seconds: float
    elapsed_seconds: float
    mix: LoadMix | None
    ok: bool
    interrupted: bool
    problems: list[str]
    costs: list[LoadCost]
    requests: list[LoadRequests]
    series: dict[str, list[LoadSample]]
    sender: list[LoadSender]
    engines: list[LoadEngine]
    engine_problems: list[LoadEngineProblem]
