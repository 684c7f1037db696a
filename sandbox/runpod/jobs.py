"""The jobs of one queue endpoint: what state each is in, who has it, and how long it is kept."""

from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sandbox.runpod.news import News

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.limits import JobLimits

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]

# A worker names its jobs at every ping; a job that it took and leaves out this often never reached it.
_PINGS_UNTIL_LOST = 2


class JobError(RuntimeError):
    """The job API refuses.

    Args:
        status: the HTTP status.
        message: in the platform's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Order:
    """What a client asks for.

    Args:
        input: for the handler; None where it is empty, which the platform drops on the way.
        sync: whether the client waits for the result.
        execution_seconds: how long a worker may have it.
        ttl_seconds: its whole life.
        kept_seconds: how long its result is kept.
        low_priority: whether it waits for workers that others have called up.
        webhook: where the result is posted; None for nowhere.
    """

    input: Any
    sync: bool
    execution_seconds: float
    ttl_seconds: float
    kept_seconds: float
    low_priority: bool = False
    webhook: str | None = None


@dataclass(eq=False)
class Job:
    """One job.

    Args:
        id: as its client knows it.
        order: what was asked for.
        created: when, in the clock's seconds.
    """

    id: str
    order: Order
    created: float
    status: Status = "IN_QUEUE"
    queued: float = 0.0
    started: float | None = None
    finished: float | None = None
    worker_id: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    losses: int = 0
    chunks: deque[Any] = field(default_factory=deque)
    silent_pings: int = 0
    gone: bool = False
    news: News = field(default_factory=News)
    execution_timer: asyncio.TimerHandle | None = None
    life_timer: asyncio.TimerHandle | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has its answer."""
        return self.status not in ("IN_QUEUE", "IN_PROGRESS")

    def document(self) -> dict[str, Any]:
        """Return it as the job API shows it."""
        document: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started is not None:
            document["delayTime"] = round((self.started - self.created) * 1000)
            if self.finished is not None:
                document["executionTime"] = round((self.finished - self.started) * 1000)
        if self.worker_id is not None:
            document["workerId"] = self.worker_id
        if self.retries:
            document["retries"] = self.retries
        return {**document, **self.result}

    def drain(self) -> list[Any]:
        """Return the pieces of its stream that nobody has fetched yet."""
        pieces = list(self.chunks)
        self.chunks.clear()
        return pieces


class JobQueue:
    """The jobs of one endpoint.

    Args:
        clock: the platform's time.
        limits: the platform's.
        released: called with a job, its worker's id, and whether that worker must be told to stop, when a
            worker no longer has it.
        finished: called with a job when it has its answer.
        changed: called when jobs wait, or wait no longer.
    """

    def __init__(
        self,
        clock: Clock,
        limits: JobLimits,
        *,
        released: Callable[[str, str, bool], None],
        finished: Callable[[Job], None],
        changed: Callable[[], None],
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self.completed = self.failed = self.retried = 0
        self._clock = clock
        self._limits = limits
        self._released = released
        self._finished = finished
        self._changed = changed
        self._normal: OrderedDict[str, Job] = OrderedDict()
        self._low: OrderedDict[str, Job] = OrderedDict()
        self._held: dict[str, dict[str, Job]] = {}

    @property
    def waiting(self) -> int:
        """How many jobs of normal priority wait; those of low priority call up no worker."""
        return len(self._normal)

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return len(self._normal) + len(self._low)

    @property
    def running(self) -> int:
        """How many jobs workers have."""
        return sum(len(jobs) for jobs in self._held.values())

    @property
    def longest_wait_seconds(self) -> float:
        """How long the oldest job of normal priority has waited; 0 where none does."""
        oldest = next(iter(self._normal.values()), None)
        return 0.0 if oldest is None else self._clock.monotonic() - oldest.queued

    def submit(self, order: Order) -> Job:
        """Take a job up."""
        job = Job(f"{'sync-' if order.sync else ''}{uuid.uuid4()}-u1", order, self._clock.monotonic())
        self.jobs[job.id] = job
        job.life_timer = self._clock.call_later(order.ttl_seconds, self._forget, job)
        self._enqueue(job)
        return job

    def find(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobError: there is none, or no longer.
        """
        if job_id not in self.jobs:
            raise JobError(404, "job not found")
        return self.jobs[job_id]

    async def wait(self, job: Job, seconds: float, *, piece: bool = False) -> bool:
        """Wait for a job's answer, or for its end without one; say whether that has come in time.

        Args:
            job: which.
            seconds: how long at the most.
            piece: whether a piece of its stream is enough.
        """
        deadline = self._clock.monotonic() + seconds
        while True:
            news = job.news.next
            if job.gone or job.is_final or (piece and job.chunks):
                return True
            try:
                await self._clock.wait_for(news.wait(), deadline - self._clock.monotonic())
            except TimeoutError:
                return False

    def take(self, worker_id: str, count: int) -> list[Job]:
        """Give a worker the jobs that have waited longest, as many as it asks for at most."""
        taken: list[Job] = []
        for line in (self._normal, self._low):
            while line and len(taken) < count:
                taken.append(line.popitem(last=False)[1])
        for job in taken:
            job.status, job.worker_id, job.silent_pings = "IN_PROGRESS", worker_id, 0
            job.started = self._clock.monotonic()
            job.execution_timer = self._clock.call_later(job.order.execution_seconds, self._overrun, job)
            self._held.setdefault(worker_id, {})[job.id] = job
            job.news.tell()
        return taken

    def held(self, worker_id: str, job_id: str) -> Job | None:
        """Return a job if this worker has it: what others say of it is too late, or said twice."""
        return self._held.get(worker_id, {}).get(job_id)

    def pinged(self, worker_id: str, job_ids: set[str]) -> None:
        """Take back jobs that a worker should have and does not name."""
        for job in list(self._held.get(worker_id, {}).values()):
            job.silent_pings = 0 if job.id in job_ids else job.silent_pings + 1
            if job.silent_pings >= _PINGS_UNTIL_LOST:
                self._lose(job)

    def worker_lost(self, worker_id: str) -> None:
        """Take back every job of a worker that is gone."""
        for job in list(self._held.get(worker_id, {}).values()):
            self._lose(job)
        self._held.pop(worker_id, None)

    def answer(self, job: Job, result: dict[str, Any]) -> None:
        """Give a job its answer.

        Args:
            job: one that a worker has.
            result: `output`, `error` or both.
        """
        self._end(job, "FAILED" if "error" in result else "COMPLETED", result)

    def cancel(self, job: Job) -> None:
        """End a job, wherever it is; one that has its answer keeps it."""
        if not job.is_final:
            self._end(job, "CANCELLED", {})

    def retry(self, job: Job) -> None:
        """Queue a job again that has come to nothing.

        Raises:
            JobError: it has not.
        """
        if job.status not in ("FAILED", "TIMED_OUT"):
            raise JobError(400, f"job is {job.status}: only FAILED and TIMED_OUT jobs can be retried")
        job.losses = 0
        self._again(job, first=False)

    def purge(self) -> int:
        """Take every waiting job out of the queue; return how many they were."""
        waiting = [*self._normal.values(), *self._low.values()]
        for job in waiting:
            self._end(job, "CANCELLED", {})
        return len(waiting)

    def forget_after(self, job: Job, seconds: float) -> None:
        """Set how long a job is still known."""
        if job.life_timer is not None:
            job.life_timer.cancel()
        job.life_timer = self._clock.call_later(seconds, self._forget, job)

    def close(self) -> None:
        """Forget every job."""
        for job in list(self.jobs.values()):
            self._forget(job)

    def _enqueue(self, job: Job, *, first: bool = False) -> None:
        job.status, job.queued = "IN_QUEUE", self._clock.monotonic()
        line = self._low if job.order.low_priority else self._normal
        line[job.id] = job
        line.move_to_end(job.id, last=not first)
        job.news.tell()
        self._changed()

    def _release(self, job: Job, *, stop: bool) -> None:
        """Take a job from the line or the worker that it is with."""
        self._normal.pop(job.id, None)
        self._low.pop(job.id, None)
        if job.execution_timer is not None:
            job.execution_timer.cancel()
            job.execution_timer = None
        if job.worker_id is not None and self.held(job.worker_id, job.id):
            del self._held[job.worker_id][job.id]
            self._released(job.id, job.worker_id, stop)

    def _end(self, job: Job, status: Status, result: dict[str, Any]) -> None:
        self._release(job, stop=status in ("CANCELLED", "TIMED_OUT"))
        job.status, job.result, job.finished = status, result, self._clock.monotonic()
        self.completed += status == "COMPLETED"
        self.failed += status in ("FAILED", "TIMED_OUT")
        life_left = job.created + job.order.ttl_seconds - job.finished
        self.forget_after(job, min(job.order.kept_seconds, life_left))
        job.news.tell()
        self._changed()
        self._finished(job)

    def _overrun(self, job: Job) -> None:
        self._end(job, "TIMED_OUT", {"error": "executionTimeout exceeded"})

    def _lose(self, job: Job) -> None:
        if job.losses >= self._limits.retries:
            self._end(job, "FAILED", {"error": f"job timed out after {job.losses} retries"})
        else:
            job.losses += 1
            self._release(job, stop=False)
            self._again(job, first=True)

    def _again(self, job: Job, *, first: bool) -> None:
        job.retries += 1
        self.retried += 1
        job.started = job.finished = job.worker_id = None
        job.result = {}
        job.chunks.clear()
        self.forget_after(job, job.created + job.order.ttl_seconds - self._clock.monotonic())
        self._enqueue(job, first=first)

    def _forget(self, job: Job) -> None:
        """End a job's life, whatever state it is in."""
        self._release(job, stop=True)
        for timer in (job.execution_timer, job.life_timer):
            if timer is not None:
                timer.cancel()
        self.jobs.pop(job.id, None)
        job.gone = True
        job.news.tell()
        self._changed()
