"""What an endpoint is asked for each task that a model may have, and what a right answer has in it."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Task

_SENTENCES = ("A ship finds a place in the harbour.", "Bread is baked in the morning.")
_QUERY = "Where does a ship lie?"
_TONE_RATE, _TONE_HERTZ = 16_000, 440
_SOUNDS = (b"RIFF", b"ID3", b"\xff\xfb", b"\xff\xf3", b"OggS", b"fLaC")


@dataclass(frozen=True)
class Question:
    """One request, and how its answer is judged.

    Args:
        name: what it asks for, as reports have it.
        route: the path after the endpoint's host.
        fields: the JSON body, or the form's fields beside its file.
        problem: takes the answer, JSON or a file's bytes, and returns why it is none; None if it is one.
        file: what is uploaded with the form; None for a request in JSON.
        job: the input of a queue's job, where the queue's OpenAI routes do not take the request.
        job_problem: as `problem`, of the job's output.
    """

    name: str
    route: str
    fields: dict[str, Any]
    problem: Callable[[Any], str | None]
    file: bytes | None = None
    job: dict[str, Any] | None = None
    job_problem: Callable[[Any], str | None] | None = None


def of_task(task: Task, model: str) -> list[Question]:
    """Return what is asked of a model, besides chat, which is asked for streamed and whole.

    Args:
        task: what the model is for.
        model: its name in requests, or that of an adapter.
    """
    questions: dict[Task, list[Question]] = {
        "generate": [
            Question(
                "completion",
                "/v1/completions",
                {"model": model, "prompt": _SENTENCES[0], "max_tokens": 16, "temperature": 0},
                _completion,
            )
        ],
        "embed": [
            Question("embeddings", "/v1/embeddings", {"model": model, "input": list(_SENTENCES)}, _embeddings)
        ],
        "score": [
            Question(
                "score", "/v1/score", {"model": model, "text_1": _QUERY, "text_2": list(_SENTENCES)}, _score
            ),
            Question(
                "rerank",
                "/v1/rerank",
                {"model": model, "query": _QUERY, "documents": list(_SENTENCES)},
                _rerank,
            ),
        ],
        "classify": [
            Question(
                "classes",
                "/classify",
                {"model": model, "input": list(_SENTENCES)},
                lambda answer: _probabilities([item["probs"] for item in answer["data"]]),
                job={"prompts": list(_SENTENCES)},
                job_problem=lambda output: _probabilities(output["probabilities"]),
            )
        ],
        "transcribe": [
            Question(
                "transcription",
                "/v1/audio/transcriptions",
                {"model": model},
                _transcription,
                file=tone(),
                job={"audio": base64.b64encode(tone()).decode()},
                job_problem=_transcription,
            )
        ],
        "speak": [Question("speech", "/v1/audio/speech", {"model": model, "input": _SENTENCES[0]}, _speech)],
    }
    return questions[task]


def tone(seconds: float = 1.0) -> bytes:
    """Return a WAV file with a plain tone: 16 bits, one channel."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_TONE_RATE)
        count = int(seconds * _TONE_RATE)
        angles = (2 * math.pi * _TONE_HERTZ * index / _TONE_RATE for index in range(count))
        sound.writeframes(struct.pack(f"<{count}h", *(int(8000 * math.sin(angle)) for angle in angles)))
    return file.getvalue()


def judged(judge: Callable[[Any], str | None], answer: Any) -> str | None:
    """Return why an answer is none, one that has not the form of any included."""
    try:
        return judge(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        shown = json.dumps(answer) if not isinstance(answer, bytes) else repr(answer)
        return f"the answer has not the form that the route promises ({error!r}): {shown[:200]}"


def without_base64(answer: Any) -> Any:
    """Return the bytes of a file that a queue's door passes on as JSON; anything else as it is."""
    if isinstance(answer, dict) and answer.keys() == {"content_type", "base64"}:
        return base64.b64decode(answer["base64"])
    return answer


def _completion(answer: Any) -> str | None:
    if answer["usage"]["completion_tokens"] < 1 or not isinstance(answer["choices"][0]["text"], str):
        return "the answer has no tokens"
    return None


def _embeddings(answer: Any) -> str | None:
    vectors = [item["embedding"] for item in answer["data"]]
    if len(vectors) != len(_SENTENCES) or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        return f"{len(_SENTENCES)} texts must have as many vectors, all of one length"
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        return "a vector has numbers that are none"
    return "two different texts have the same vector" if vectors[0] == vectors[1] else None


def _score(answer: Any) -> str | None:
    scores = [item["score"] for item in answer["data"]]
    if len(scores) != len(_SENTENCES) or not all(math.isfinite(score) for score in scores):
        return f"{len(_SENTENCES)} texts must have as many scores: {scores}"
    return None


def _rerank(answer: Any) -> str | None:
    results = answer["results"]
    scores = [item["relevance_score"] for item in results]
    if {item["index"] for item in results} != set(range(len(_SENTENCES))):
        return "not every document is in the answer"
    return None if scores == sorted(scores, reverse=True) else f"the scores are in no order: {scores}"


def _probabilities(lists: Any) -> str | None:
    if len(lists) != len(_SENTENCES) or not all(lists):
        return f"{len(_SENTENCES)} texts must have as many lists of probabilities"
    wrong = [number for numbers in lists for number in numbers if not 0 <= number <= 1]
    return f"{wrong[0]} is no probability" if wrong else None


def _transcription(answer: Any) -> str | None:
    # Of a tone, a model may rightly say nothing.
    return None if isinstance(answer["text"], str) else "the answer has no text"


def _speech(answer: Any) -> str | None:
    if not isinstance(answer, bytes) or not answer.startswith(_SOUNDS):
        return "the answer is no sound file that is known here"
    return None
