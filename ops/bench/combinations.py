"""The settings that a sweep tries: each value of each key with each of the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from infra.settings import SettingsError, load
from ops.errors import OpsError, UsageError
from ops.stacks import STACKS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.settings import Settings

_SECTIONS = ("model", "serving")
_WRITTEN = "KEY=VALUE,VALUE with a key of the stack file, such as serving.max_num_seqs=64,128"
# A server outside of its image takes the weights from where the hub's are on this machine.
_HERE = {"model.weights": "hub"}


@dataclass(frozen=True)
class Combination:
    """One of them.

    Args:
        changes: the values, by dotted key.
        settings: the stack's with these values.
    """

    changes: dict[str, Any]
    settings: Settings


def combinations(stack: str, given: Sequence[str], folder: Path = STACKS_FOLDER) -> list[Combination]:
    """Return every combination, its settings checked as those of a stack file are.

    Args:
        stack: the stack's name.
        given: each key with its values, `serving.max_num_seqs=64,128`.
        folder: where stack files are.

    Raises:
        UsageError: an argument is not of this form, or its key does not change the server.
        OpsError: a combination is none that a stack file could have; all that is wrong is in the message.
    """
    lists = dict(_values(text) for text in given)
    if len(lists) < len(given):
        raise UsageError("a key is there twice: give it all its values, separated by commas, once")
    found: list[Combination] = []
    problems: list[str] = []
    for values in itertools.product(*lists.values()):
        changes = dict(zip(lists, values, strict=True))
        try:
            settings = load(folder / f"Pulumi.{stack}.yaml", {**_HERE, **changes})
        except SettingsError as error:
            problems += error.problems
        else:
            found.append(Combination(changes, settings))
    if problems:
        raise OpsError("\n".join(dict.fromkeys(problems)))
    return found


def _values(text: str) -> tuple[str, list[Any]]:
    key, _, written = text.partition("=")
    section, _, name = key.partition(".")
    try:
        values = yaml.safe_load(f"[{written}]")
    except yaml.YAMLError:
        values = []
    if not name or not values:
        raise UsageError(f"{text}: must be {_WRITTEN}")
    if section not in _SECTIONS:
        raise UsageError(f"{text}: only keys of {' and '.join(_SECTIONS)} change what the server does")
    if key in _HERE:
        raise UsageError(f"{text}: on this machine weights come from the hub")
    return key, values
