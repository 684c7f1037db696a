"""What the users of a load ask a model that generates: made prompts, or those of the user's own file."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ops.errors import UsageError

MIXES = ("short", "long", "mixed")
_SHORT_TOKENS = (64, 64)
_LONG_TOKENS = (2000, 256)
_SHORT_IN_MIXED = 4  # of five requests
_WORDS = (
    "anchor", "barge", "buoy", "canal", "captain", "cargo", "chart", "coast", "crane", "current", "deck",
    "dock", "ferry", "harbour", "island", "keel", "light", "mast", "morning", "pilot", "port", "river",
    "rope", "sail", "ship", "shore", "signal", "storm", "tide", "tower", "vessel", "wind",
)  # fmt: skip


@dataclass
class Manner:
    """How an endpoint wants to be asked, as its first answer has shown.

    Args:
        chat: whether its model has a chat template; one without is asked for completions.
        tokens_per_word: how many tokens its model makes of a word.
    """

    chat: bool = True
    tokens_per_word: float = 1.0


@dataclass(frozen=True)
class Part:
    """One kind of request in a mix.

    Args:
        kind: as the results name it.
        weight: how often it is sent, beside the weights of the others.
        max_tokens: the longest answer; of a made prompt, the length of every one. None: the server's limit.
        prompt_tokens: about how long a made prompt is; None of the user's own.
        messages: the user's own conversation; empty of a made prompt.
    """

    kind: str
    weight: int
    max_tokens: int | None
    prompt_tokens: int | None = None
    messages: tuple[dict[str, Any], ...] = ()

    def said(self) -> str:
        """Return what it is, for people."""
        if self.prompt_tokens is None:
            return f"{self.kind} prompt"
        return f"{self.kind}: {self.prompt_tokens} tokens in, {self.max_tokens} out"

    def body(self, model: str, manner: Manner) -> dict[str, Any]:
        """Return a streamed request with it.

        A made prompt is another one each time, from its first word on: none of it is answered from a cache of
        prefixes. Its answer goes on to the last token whatever the model would say.

        Args:
            model: the served name.
            manner: how the endpoint wants to be asked.
        """
        messages = list(self.messages)
        body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.prompt_tokens is not None:
            count = max(1, round(self.prompt_tokens / manner.tokens_per_word))
            words = random.choices(_WORDS, k=count)  # noqa: S311  # no secret
            messages = [{"role": "user", "content": " ".join(words)}]
            body |= {"ignore_eos": True, "temperature": 0}
        if manner.chat:
            return body | {"messages": messages}
        return body | {"prompt": "\n".join(str(message["content"]) for message in messages)}


@dataclass(frozen=True)
class Mix:
    """What is sent, and in which proportion.

    Args:
        name: `short`, `long`, `mixed`, or the name of the user's file.
        parts: its kinds of requests.
    """

    name: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, name: str, max_model_len: int) -> Self:
        """Return a mix by its name, or from the user's file.

        Args:
            name: one of MIXES, or a path.
            max_model_len: the longest sequence of the model, prompt and answer; 0 if it is not known.

        Raises:
            UsageError: there is neither a mix nor a file of this name, or a line of it is no prompt.
        """
        if name not in MIXES:
            return cls(Path(name).name, _own(Path(name)))
        inputs, outputs = _LONG_TOKENS
        if max_model_len:
            inputs, outputs = min(inputs, max_model_len // 2), min(outputs, max_model_len // 4)
        short = Part("short", _SHORT_IN_MIXED, min(_SHORT_TOKENS[1], outputs), min(_SHORT_TOKENS[0], inputs))
        long = Part("long", 1, outputs, inputs)
        return cls(name, {"short": (short,), "long": (long,), "mixed": (short, long)}[name])

    def pick(self) -> Part:
        """Return one of its parts, at random by their weights."""
        weights = [part.weight for part in self.parts]
        return random.choices(self.parts, weights)[0]  # noqa: S311  # no secret


class _Line(BaseModel):
    """One line of a user's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str | None = Field(default=None, min_length=1)
    messages: list[_Message] | None = Field(default=None, min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs one of prompt and messages")
        return self


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: str
    content: str | list[dict[str, Any]]


def _own(path: Path) -> tuple[Part, ...]:
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--mix {path}: is neither one of {', '.join(MIXES)} nor a file that can be read ({error})"
        ) from None
    parts = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            parts.append(_part(path, number, line))
    if not parts:
        raise UsageError(f"--mix {path}: has no line: each is one JSON object with prompt or messages")
    return tuple(parts)


def _part(path: Path, number: int, line: str) -> Part:
    try:
        read = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UsageError(
            f"--mix {path}, line {number}: {where + ': ' if where else ''}{first['msg']}. A line is a JSON"
            ' object such as {"prompt": "Hello", "max_tokens": 64} or'
            ' {"messages": [{"role": "user", "content": "Hello"}]}'
        ) from None
    messages = (
        [{"role": "user", "content": read.prompt}]
        if read.messages is None
        else [message.model_dump() for message in read.messages]
    )
    return Part("own", 1, read.max_tokens, messages=tuple(messages))
