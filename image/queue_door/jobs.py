"""Decides what a job's input is, and has it done."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from queue_door import completions, media, pooling, routes
from queue_door.errors import JobError
from queue_door.fields import described, wrong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from queue_door.engine import Engine

    Whole = Callable[[Engine, str, dict[str, Any]], Awaitable[dict[str, Any]]]
    Pieces = Callable[[Engine, str, dict[str, Any]], AsyncIterator[Any]]

# The fields that say what a job is, and those of them that one input may have together.
_LEADING = (
    "openai_route",
    "openai_input",
    "route",
    "messages",
    "prompt",
    "prompts",
    "texts",
    "text",
    "image",
    "audio",
)
_TOGETHER = ({"openai_route", "openai_input"}, {"image", "prompt"}, {"audio", "prompt"})
_OF_SPEECH = {"language", "speaker_wav"}


@dataclass(frozen=True)
class Jobs:
    """The handlers that RunPod's SDK calls.

    Args:
        engine: vLLM.
        task: what the model is for, where an input could be for several: one of BERTH_TASK's, or nothing.
    """

    engine: Engine
    task: str

    @classmethod
    def from_environment(cls, engine: Engine) -> Jobs:
        """Return the handlers for this endpoint's task."""
        return cls(engine, os.environ.get("BERTH_TASK", ""))

    @staticmethod
    def has_pieces(job: dict[str, Any]) -> bool:
        """Tell whether a job's output is the list of what `pieces` yields, and not what `whole` returns.

        The answers of vLLM's own routes are, even those of one piece: the platform's `/openai/v1` gives out
        the first.
        """
        given = job.get("input")
        if not isinstance(given, dict):
            return False
        return (
            bool(given.keys() & {"openai_route", "openai_input", "route"})
            or given.get("stream") is True
            or completions.is_published_workers(given)
        )

    async def whole(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job of a plain dialect."""
        try:
            given = _checked(job)
            return await self._dialect(given)(self.engine, job["id"], given)
        except Exception as error:  # noqa: BLE001  # the SDK would send a stack trace to the client
            return {**_error(error).result()}

    async def pieces(self, job: dict[str, Any]) -> AsyncIterator[Any]:
        """Do a job whose answer comes in pieces."""
        try:
            given = _checked(job)
            async for piece in self._stream(given)(self.engine, job["id"], given):
                yield piece
        except Exception as error:  # noqa: BLE001  # the SDK would send a stack trace to the client
            yield _error(error).result()

    def _stream(self, given: dict[str, Any]) -> Pieces:
        if given.keys() & {"openai_route", "openai_input"}:
            return routes.openai
        if "route" in given:
            return routes.any_route
        if completions.is_published_workers(given):
            return _published_workers
        dialect = self._dialect(given)
        if dialect is completions.complete:
            return completions.stream
        return _one_piece(dialect)

    def _dialect(self, given: dict[str, Any]) -> Whole:
        if "audio" in given:
            return media.transcribe
        if "image" in given:
            return media.image_task if given.get("task") is not None else completions.complete
        if "texts" in given:
            return pooling.embed
        if "text" in given:
            is_speech = self.task not in ("", "embed") or given.get("task") == "speech"
            return media.speak if is_speech or given.keys() & _OF_SPEECH else pooling.embed
        if self.task == "classify":
            return pooling.classify
        return completions.batch if "prompts" in given else completions.complete


async def _published_workers(engine: Engine, job_id: str, given: dict[str, Any]) -> AsyncIterator[Any]:
    route, body = completions.sampled(given)
    async for piece in routes.openai(engine, job_id, {"openai_route": route, "openai_input": body}):
        yield piece


def _one_piece(dialect: Whole) -> Pieces:
    """Have a job whose answer has no pieces done as a stream of one."""

    async def only(engine: Engine, job_id: str, given: dict[str, Any]) -> AsyncIterator[Any]:
        whole = {name: value for name, value in given.items() if name != "stream"}
        yield await dialect(engine, job_id, whole)

    return only


def _error(error: Exception) -> JobError:
    if isinstance(error, JobError):
        return error
    traceback.print_exception(error)
    return JobError(f"the worker failed: {type(error).__name__}: {error}", "InternalServerError", 500)


def _checked(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job's input if it is one that can be for one thing only.

    Raises:
        JobError: it is not.
    """
    given = job.get("input")
    if given is None or given == {}:
        raise JobError(f"input is empty: give one of {', '.join(_LEADING)}", param="input")
    if not isinstance(given, dict):
        raise JobError(f"input must be an object, not {described(given)}", param="input")
    if not isinstance(given.get("stream") or False, bool):
        raise wrong("stream", f"must be true or false, not {described(given['stream'])}")
    leading = [name for name in _LEADING if name in given]
    if not leading:
        raise JobError(
            f"input has none of {', '.join(_LEADING)}, which say what to do; it has {', '.join(given)}",
            param="input",
        )
    if len(leading) > 1 and set(leading) not in _TOGETHER:
        raise JobError(
            f"input has {' and '.join(leading)}, which are different kinds of job: give one",
            param="input",
        )
    return given
