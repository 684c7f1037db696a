"""The requests that a model is asked by, for each task: what is sent, and how much work it is.

A prompt is random token ids, so that it has exactly the length that was asked for, needs no tokenizer, and
nothing of it is in the server's prefix cache. Where a server takes text alone, it is words.
"""

from __future__ import annotations

import base64
import itertools
import random
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ops import questions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings import Task
    from ops.bench.workload import Workload

# In every vocabulary, as those of bytes are, and above the ids that mark beginnings and ends.
_TOKENS = range(5, 256)
_WORDS = ("ship", "harbour", "crane", "anchor", "rope", "wind", "tide", "bread", "morning", "light")


@dataclass(frozen=True)
class Target:
    """Who is asked.

    Args:
        url: up to and with `/v1`.
        key: what opens it.
        model: its name in requests.
        task: what it is for.
        jobs: the base URL of a queue's job API; None for an endpoint without a queue.
        takes_tokens: whether it is vLLM, which takes token ids in the place of text.
    """

    url: str
    key: str = field(repr=False)
    model: str
    task: Task
    jobs: str | None = None
    takes_tokens: bool = True


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        url: where it is posted to.
        json: its body; None for a form.
        form: the fields of a form, and its file under the name `file`.
        streams: whether the answer comes token by token.
        inputs: how many inputs it has, and answers it must get.
    """

    url: str
    json: dict[str, Any] | None
    form: dict[str, str | bytes] | None = None
    streams: bool = False
    inputs: int = 1


def calls(target: Target, workload: Workload, seed: str, *, warm_up: bool = False) -> Iterator[Call]:
    """Yield the requests of a workload, no two alike.

    Args:
        target: who is asked.
        workload: what they are like.
        seed: what their random parts depend on.
        warm_up: whether they are those that come first: one for each client, with one token of an answer.
    """
    lengths = itertools.cycle(workload.prompt_tokens or (0,))
    count = workload.concurrency if warm_up else workload.requests
    output = min(1, workload.output_tokens) if warm_up else workload.output_tokens
    for number, length in enumerate(itertools.islice(lengths, count)):
        source = random.Random(f"{seed}-{workload}-{warm_up}-{number}")  # noqa: S311  # not for secrets
        yield _call(target, workload, length, output, source)


def _call(target: Target, workload: Workload, length: int, output: int, source: random.Random) -> Call:
    size = workload.batch_size
    if target.task == "generate":
        return _completion(target, length, output, source)
    if target.task == "embed":
        # As OpenAI's own client asks for it: vectors in text would be the client's work to read.
        body = {"input": _inputs(target, size, length, source), "encoding_format": "base64"}
        return _posted(target, f"{target.url}/embeddings", body, size)
    if target.task == "score":
        texts = {"text_1": _text(source, 1), "text_2": [_text(source, length) for _ in range(size)]}
        # A word is at least one token: so each pair has exactly as many as were asked for.
        return _posted(target, f"{target.url}/score", {**texts, "truncate_prompt_tokens": length}, size)
    if target.task == "classify":
        return _classes(target, _inputs(target, size, length, source))
    if target.task == "speak":
        return _posted(target, f"{target.url}/audio/speech", {"input": _text(source, length)}, 1)
    return _transcription(target, _tone(workload.audio_seconds))


def _completion(target: Target, length: int, output: int, source: random.Random) -> Call:
    body: dict[str, Any] = {
        "model": target.model,
        "prompt": _inputs(target, 1, length, source)[0],
        "max_tokens": output,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if target.takes_tokens:
        body["ignore_eos"] = True  # vLLM's own: each answer has as many tokens as were asked for
    return Call(f"{target.url}/completions", body, streams=True)


def _classes(target: Target, inputs: list[Any]) -> Call:
    body = {"model": target.model, "input": inputs}
    if target.jobs is not None:  # not of OpenAI's API, which is all that a queue has beside its jobs
        return _job(target.jobs, {"route": "/classify", "body": body}, len(inputs))
    return Call(f"{target.url.removesuffix('/v1')}/classify", body, inputs=len(inputs))


def _transcription(target: Target, sound: bytes) -> Call:
    if target.jobs is not None:  # a queue takes no form
        return _job(target.jobs, {"audio": base64.b64encode(sound).decode()}, 1)
    return Call(f"{target.url}/audio/transcriptions", None, {"model": target.model, "file": sound})


def _inputs(target: Target, count: int, length: int, source: random.Random) -> list[Any]:
    if target.takes_tokens:
        return [source.choices(_TOKENS, k=length) for _ in range(count)]
    return [_text(source, length) for _ in range(count)]


def _posted(target: Target, url: str, body: dict[str, Any], inputs: int) -> Call:
    return Call(url, {"model": target.model, **body}, inputs=inputs)


def _job(jobs: str, given: dict[str, Any], inputs: int) -> Call:
    return Call(f"{jobs}/runsync", {"input": given}, inputs=inputs)


def _text(source: random.Random, words: int) -> str:
    return " ".join(source.choices(_WORDS, k=words))


@cache
def _tone(seconds: int) -> bytes:
    return questions.tone(seconds)
