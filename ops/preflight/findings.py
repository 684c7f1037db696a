"""A question of the preflight and its answer: yes, no or not known, with what was seen and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = Literal["yes", "no", "not known"]


@dataclass(frozen=True)
class Finding:
    """An answer.

    Attributes:
        answer: yes, no or not known.
        seen: what was seen, in a sentence.
        fix: the command or link that helps; empty where nothing needs to be done.
        askable: whether anybody could have answered; what is not known counts as no only then.
    """

    answer: Answer
    seen: str
    fix: str = ""
    askable: bool = True

    @property
    def passes(self) -> bool:
        """Whether `up` may go on."""
        return self.answer == "yes" or (self.answer == "not known" and not self.askable)


@dataclass(frozen=True)
class Check:
    """A question.

    Attributes:
        subject: who is asked: AWS, RunPod, the hub, ...
        name: what is asked for.
        ask: finds the answer, by reading only.
    """

    subject: str
    name: str
    ask: Callable[[], Finding]


@dataclass(frozen=True)
class Result:
    """A question with its answer."""

    subject: str
    name: str
    finding: Finding


def yes(seen: str) -> Finding:
    """Return a yes."""
    return Finding("yes", seen)


def no(seen: str, fix: str) -> Finding:
    """Return a no with its fix."""
    return Finding("no", seen, fix)


def unknown(seen: str, fix: str, *, askable: bool = True) -> Finding:
    """Return that the answer is not known, and how it could be."""
    return Finding("not known", seen, fix, askable)
