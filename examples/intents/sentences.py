"""Sentences with their intents: JSON lines, each `{"text": ..., "intent": ...}`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Sentences:
    """What people say, and what each of them wants."""

    texts: tuple[str, ...]
    intents: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The intents that there are, in the order of the model's classes."""
        return sorted(set(self.intents))


def read(path: Path) -> Sentences:
    """Return the sentences in a file.

    Raises:
        IntentsError: it is not there, or a line of it is no sentence with an intent, or it has fewer than two
            intents.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise IntentsError(f"{path}: {error.strerror}") from error
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    sentences = Sentences(tuple(text for text, _ in rows), tuple(intent for _, intent in rows))
    if len(sentences.labels) < 2:
        raise IntentsError(f"{path}: has {len(sentences.labels)} intents: a classifier needs two or more")
    return sentences


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise IntentsError(f"{where}: is not JSON: {error}") from error
    text, intent = (row.get(key) if isinstance(row, dict) else None for key in ("text", "intent"))
    if not (isinstance(text, str) and text.strip() and isinstance(intent, str) and intent.strip()):
        raise IntentsError(
            f'{where}: must be {{"text": "...", "intent": "..."}}, both with something in them'
        )
    return text, intent
