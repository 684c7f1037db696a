"""Proves that an endpoint does its job: waits for it, asks it, and has it refuse those without the key."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from ops import chat, questions
from ops.readiness import readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.settings import Task
    from ops.endpoints import Endpoint
    from ops.questions import Question

_POLL_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_ANSWER_LIMIT_SECONDS = 120.0
# Not a secret: what a stranger might try.
_WRONG_KEY = "not-the-key"
_NO_CHAT_TEMPLATE = "chat template"  # vLLM's words for a model that was not made for chat


class _AskError(Exception):
    """An endpoint did not answer a question; the message says what it did instead, without the key."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Check:
    """One thing that an endpoint has to do, and what it did.

    Args:
        name: what was asked.
        problem: why it does not hold, None when it holds.
        answer: the completion, of a check that asks for chat.
        latency_seconds: how long another answer took, from the request to its last byte.
    """

    name: str
    problem: str | None = None
    answer: chat.Answer | None = None
    latency_seconds: float | None = None


@dataclass
class Report:
    """What was seen at one endpoint."""

    endpoint: Endpoint
    waited_seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check was made and holds."""
        return bool(self.checks) and all(check.problem is None for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs, in plain figures."""
        return {
            "platform": self.endpoint.platform,
            "url": self.endpoint.url,
            "ok": self.ok,
            "waited_seconds": round(self.waited_seconds, 1),
            "checks": [_check_as_json(check) for check in self.checks],
        }


def _check_as_json(check: Check) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": check.name, "ok": check.problem is None}
    if check.problem is not None:
        shown["problem"] = check.problem
    if check.latency_seconds is not None:
        shown["latency_seconds"] = round(check.latency_seconds, 3)
    if check.answer is not None:
        shown |= {
            "latency_seconds": round(check.answer.latency_seconds, 3),
            "prompt_tokens": check.answer.prompt_tokens,
            "completion_tokens": check.answer.completion_tokens,
            "tokens_per_second": round(check.answer.tokens_per_second, 2),
        }
        if check.answer.first_token_seconds is not None:
            shown["first_token_seconds"] = round(check.answer.first_token_seconds, 3)
    return shown


def run(
    endpoints: Sequence[Endpoint],
    models: Sequence[str],
    *,
    task: Task,
    limit_seconds: float,
    look: Callable[[Endpoint], Look],
    say: Callable[[str, str], None],
) -> list[Report]:
    """Check every endpoint: wait for all at once, then ask one after the other, so that none slows another.

    Args:
        endpoints: what to check.
        models: the served name of the model, and those of its adapters.
        task: what the model is for, which decides what is asked.
        limit_seconds: how long to wait until an endpoint is ready, for example for a worker to start.
        look: tells what is going on behind an endpoint that is not ready.
        say: takes the platform and a line of progress.
    """
    reports = [Report(endpoint) for endpoint in endpoints]
    waiting = partial(wait, limit_seconds=limit_seconds, look=look, say=say)
    with ThreadPoolExecutor(len(reports)) as pool:
        problems = list(pool.map(waiting, reports))
    for report, problem in zip(reports, problems, strict=True):
        if problem is not None:
            report.checks.append(Check("ready", problem))
        else:
            _ask(report, models, task, say)
    return reports


@dataclass(frozen=True)
class Look:
    """What goes on behind an endpoint that is not ready.

    Args:
        state: one line that says it.
        failure: why waiting longer is of no use, None when it may help.
    """

    state: str
    failure: str | None = None


def wait(
    report: Report,
    *,
    limit_seconds: float,
    look: Callable[[Endpoint], Look],
    say: Callable[[str, str], None],
) -> str | None:
    """Wait until the endpoint of a report is ready; return why it will not be.

    Args:
        report: takes how long it took.
        limit_seconds: how long to wait at the most.
        look: tells what is going on behind an endpoint that is not ready.
        say: takes the platform and a line of progress.
    """
    endpoint = report.endpoint
    begun = time.monotonic()
    looked_at = 0.0
    seen = Look("")
    with closing(readiness(endpoint, begun + limit_seconds)) as asked:
        while True:
            state, ready = asked.poll()
            report.waited_seconds = time.monotonic() - begun
            if ready:
                say(endpoint.platform, f"ready after {report.waited_seconds:.0f} s")
                return None
            if ready is None:
                return state
            if time.monotonic() - looked_at >= _LOOK_SECONDS:
                seen = look(endpoint)
                looked_at = time.monotonic()
            if seen.failure:
                return seen.failure
            waiting_for = f"{state}; {seen.state}" if seen.state else state
            if report.waited_seconds >= limit_seconds:
                return f"not ready in {limit_seconds:.0f} s: {waiting_for}"
            say(endpoint.platform, f"waiting until it is ready: {waiting_for}")
            time.sleep(_POLL_SECONDS)


def _ask(report: Report, models: Sequence[str], task: Task, say: Callable[[str, str], None]) -> None:
    endpoint = report.endpoint
    if task == "generate":
        _ask_for_chat(report, models[0], say)
    for index, model in enumerate(models):
        for question in questions.of_task(task, model):
            name = question.name if index == 0 else f"{question.name} of {model}"
            say(endpoint.platform, f"asking for one {name}")
            report.checks.append(_answered(endpoint, name, question))
    if not endpoint.asks_for_key:
        return
    for name, key in (("refused without a key", None), ("refused with a wrong key", _WRONG_KEY)):
        say(endpoint.platform, f"asking: is one {name}?")
        report.checks.append(Check(name, _refusal_problem(endpoint, key)))


def _ask_for_chat(report: Report, model: str, say: Callable[[str, str], None]) -> None:
    endpoint = report.endpoint
    for name, stream in (("answer", False), ("streamed answer", True)):
        say(endpoint.platform, f"asking for one {name}")
        try:
            answer = chat.ask(
                endpoint.url, endpoint.key, model, stream=stream, limit_seconds=_ANSWER_LIMIT_SECONDS
            )
            report.checks.append(Check(name, answer=answer))
        except chat.ChatError as error:
            if error.status == httpx.codes.BAD_REQUEST and _NO_CHAT_TEMPLATE in str(error):
                say(endpoint.platform, "the model has no chat template: it is asked for completions alone")
                return
            report.checks.append(Check(name, str(error)))


def _answered(endpoint: Endpoint, name: str, question: Question) -> Check:
    begun = time.monotonic()
    try:
        if endpoint.jobs is not None and question.job is not None and question.job_problem is not None:
            problem = questions.judged(question.job_problem, _job_output(endpoint, question.job))
        else:
            problem = questions.judged(question.problem, _content(_post(endpoint, question)))
    except _AskError as error:
        return Check(name, str(error))
    return Check(name, problem, latency_seconds=time.monotonic() - begun)


def _content(reply: httpx.Response) -> Any:
    """Return an answer as JSON, or a file's bytes: also those that a queue passes on in base64."""
    if reply.headers.get("content-type", "").startswith("application/json"):
        return questions.without_base64(reply.json())
    return reply.content


def _post(endpoint: Endpoint, question: Question) -> httpx.Response:
    url = endpoint.url.removesuffix("/v1") + question.route
    if question.file is None:
        return _request(endpoint.key, "POST", url, json=question.fields)
    return _request(
        endpoint.key,
        "POST",
        url,
        data=question.fields,
        files={"file": ("speech.wav", question.file, "audio/wav")},
    )


def _job_output(endpoint: Endpoint, given: dict[str, Any]) -> Any:
    job = _request(endpoint.key, "POST", f"{endpoint.jobs}/runsync", json={"input": given}).json()
    if job.get("status") != "COMPLETED":
        raise _AskError(f"the job is {job.get('status')}: {job.get('error') or 'no reason given'}")
    return job["output"]


def _request(key: str | None, method: str, url: str, **content: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.request(method, url, headers=headers, timeout=_ANSWER_LIMIT_SECONDS, **content)
    except httpx.TimeoutException:
        raise _AskError(f"no complete answer in {_ANSWER_LIMIT_SECONDS:.0f} s") from None
    except httpx.HTTPError as error:
        raise _AskError(f"the connection failed: {error or type(error).__name__}") from error
    if reply.status_code != httpx.codes.OK:
        raise _AskError(f"HTTP {reply.status_code}: {chat.reason_in(reply.content)}", reply.status_code)
    return reply


def _refusal_problem(endpoint: Endpoint, key: str | None) -> str | None:
    try:
        # The one route that every server has, and guards: vLLM asks no key at /classify.
        _request(key, "GET", f"{endpoint.url}/models")
    except _AskError as error:
        return None if error.status == httpx.codes.UNAUTHORIZED else f"must be refused with HTTP 401: {error}"
    return "it answers: anyone who knows the URL can use it"
