"""Asks an endpoint, so many requests at once, and takes the time of every answer and of its tokens.

vLLM's own `vllm bench serve` is not used: it gives a request six hours, needs vLLM and the model's tokenizer
where it runs, has no jobs of a queue, and keeps nothing of a run that is interrupted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from ops import chat
from ops.bench.calls import Call, Target, calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.bench.workload import Workload

_CONNECT_SECONDS = 10.0
_REPORT_SECONDS = 5.0
_FORBIDDEN = ("HTTP 401", "HTTP 403")
_MOST_ERRORS_PER_CLIENT = 3  # one after the other; with a limit of minutes each, more would take hours


class RefusedKeyError(Exception):
    """The endpoint does not take the key."""


@dataclass(frozen=True)
class Answer:
    """One request and what came of it.

    Args:
        begun: when it was sent, by `time.monotonic`.
        ended: when its last byte came, or what went wrong.
        pieces: when each piece of a stream came: a token, or several where the server is busy.
        prompt_tokens: by the endpoint's own count; 0 where it has none.
        output_tokens: the same.
        inputs: how many inputs were answered.
        error: the kind of what went wrong; empty if nothing did.
        detail: what the endpoint said about it.
    """

    begun: float
    ended: float
    pieces: tuple[float, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    inputs: int = 0
    error: str = ""
    detail: str = ""


@dataclass
class Measured:
    """What has been seen of one workload, for as long as it ran.

    Args:
        answers: in the order in which they came.
        cpu_seconds: processor time of this process meanwhile.
        is_complete: whether every request was sent and has come to an end.
        problem: why the rest was not sent; empty if nothing hindered it.
    """

    answers: list[Answer] = field(default_factory=list)
    cpu_seconds: float = 0.0
    is_complete: bool = False
    problem: str = ""


def measure(
    target: Target,
    workload: Workload,
    measured: Measured,
    *,
    seed: str,
    limit_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Ask all of a workload; on Ctrl-C, what was seen so far is in `measured`.

    Args:
        target: who is asked.
        workload: what for.
        measured: takes what is seen.
        seed: what the random parts of requests depend on.
        limit_seconds: how long one request may take; one that takes longer is counted as an error.
        report: takes lines of progress.

    Raises:
        RefusedKeyError: the endpoint does not take the key; nothing was measured.
    """
    asyncio.run(_measure(target, workload, measured, seed, limit_seconds, report))


async def _measure(
    target: Target,
    workload: Workload,
    measured: Measured,
    seed: str,
    limit_seconds: float,
    report: Callable[[str], None],
) -> None:
    timeout = aiohttp.ClientTimeout(total=limit_seconds, sock_connect=min(limit_seconds, _CONNECT_SECONDS))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=timeout,
        headers={"Authorization": f"Bearer {target.key}"},
    ) as session:
        report(f"{workload}: opening connections")
        first: list[Answer] = []
        await _clients(
            session, calls(target, workload, seed, warm_up=True), workload.concurrency, first.append
        )
        refused = next((item for item in first if item.error in _FORBIDDEN), None)
        if refused is not None:
            raise RefusedKeyError(f"{target.url} refuses the key ({refused.error}: {refused.detail})")
        if all(item.error for item in first):
            measured.problem = f"none of the first {len(first)} requests was answered: {_why(first)}"
            measured.answers += first
            return
        reported, in_a_row = 0.0, 0
        most_in_a_row = _MOST_ERRORS_PER_CLIENT * workload.concurrency

        def take(answer: Answer) -> None:
            nonlocal reported, in_a_row
            measured.answers.append(answer)
            in_a_row = in_a_row + 1 if answer.error else 0
            if in_a_row >= most_in_a_row:
                measured.problem = f"given up after {in_a_row} errors in a row: {_why([answer])}"
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                wrong = sum(bool(item.error) for item in measured.answers)
                errors = f", {wrong} errors" if wrong else ""
                report(f"{workload}: {len(measured.answers)} of {workload.requests} requests{errors}")

        cpu = time.process_time()
        try:
            asked = itertools.takewhile(lambda _: not measured.problem, calls(target, workload, seed))
            await _clients(session, asked, workload.concurrency, take)
        finally:
            measured.cpu_seconds = time.process_time() - cpu
        measured.is_complete = not measured.problem


async def _clients(
    session: aiohttp.ClientSession, asked: Iterator[Call], count: int, take: Callable[[Answer], None]
) -> None:
    """Have so many clients ask, each its next as soon as it has an answer."""

    async def client() -> None:
        for call in asked:
            take(await _ask(session, call))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(client())


def _why(answers: list[Answer]) -> str:
    worst = answers[0]
    return f"{worst.error}: {worst.detail}" if worst.detail else worst.error


async def _ask(session: aiohttp.ClientSession, call: Call) -> Answer:
    begun = time.monotonic()
    try:
        async with session.post(call.url, json=call.json, data=_form(call)) as response:
            if response.status != 200:
                said = chat.reason_in(await response.read())
                return Answer(begun, time.monotonic(), error=f"HTTP {response.status}", detail=said)
            if call.streams:
                return await _streamed(response, begun)
            content = await response.read()
            ended = time.monotonic()
        return _whole(call, content, response.content_type, begun, ended)
    except TimeoutError:
        return Answer(begun, time.monotonic(), error="timeout", detail="no complete answer within the limit")
    except (aiohttp.ClientError, OSError) as error:
        # Without the error's address, which differs with every connection.
        return Answer(begun, time.monotonic(), error=f"connection: {type(error).__name__}", detail=str(error))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return Answer(begun, time.monotonic(), error="wrong answer", detail=repr(error)[:300])


def _form(call: Call) -> aiohttp.FormData | None:
    if call.form is None:
        return None
    form = aiohttp.FormData()
    for name, value in call.form.items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename="sound.wav", content_type="audio/wav")
        else:
            form.add_field(name, value)
    return form


async def _streamed(response: aiohttp.ClientResponse, begun: float) -> Answer:
    """Read a stream; only its last lines are parsed, so that this takes the time of no other request."""
    lines = [(time.monotonic(), line) async for line in response.content if line.startswith(b"data:")]
    ended = time.monotonic()
    data = [line.removeprefix(b"data:").strip() for _, line in lines[-2:]]
    last = json.loads(data[0]) if data else {}
    if "error" in last:
        return Answer(begun, ended, error="error in the stream", detail=chat.reason_in(data[0]))
    if len(data) < 2 or data[1] != b"[DONE]":
        return Answer(begun, ended, error="broken stream", detail="it ended without [DONE]")
    usage = last["usage"]
    pieces = tuple(at for at, _ in lines[:-2])
    if not pieces or not usage["completion_tokens"]:
        return Answer(begun, ended, error="no tokens", detail="the answer has no tokens")
    return Answer(begun, ended, pieces, usage["prompt_tokens"], usage["completion_tokens"], 1)


def _whole(call: Call, content: bytes, content_type: str, begun: float, ended: float) -> Answer:
    if content_type != "application/json":  # speech
        return Answer(begun, ended, inputs=call.inputs)
    document: dict[str, Any] = json.loads(content)
    if document.get("status") and "data" not in document:  # a job
        if document["status"] != "COMPLETED":
            return Answer(begun, ended, error=f"job {document['status']}", detail=chat.reason_in(content))
        output = document["output"]
        # What a queue's door passes on comes as the one piece of a stream.
        document = output[0] if isinstance(output, list) else output
    if "error" in document:
        return Answer(begun, ended, error="error in the answer", detail=chat.reason_in(content))
    answered = len(document["data"]) if "data" in document else 1
    if answered != call.inputs:
        raise ValueError(f"{call.inputs} inputs have {answered} answers")
    usage = document.get("usage") or {}
    return Answer(begun, ended, prompt_tokens=usage.get("prompt_tokens") or 0, inputs=answered)
