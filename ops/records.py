"""What was measured or proved of a stack, one JSON file each, for comparisons and for `berth report`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ops.errors import UsageError
from ops.stacks import PROJECT_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = PROJECT_FOLDER / "results"
Kind = Literal["up", "smoke", "bench", "load", "destroy", "leftovers"]


@dataclass(frozen=True)
class Record:
    """One of them.

    Args:
        path: its file.
        at: when it was made, in UTC.
        document: what the command had to say, without secrets.
    """

    path: Path
    at: datetime
    document: dict[str, Any]


def keep(stack: str, kind: Kind, document: dict[str, Any]) -> Path:
    """Keep what a command has found out, under `results/STACK/`, and return its file.

    Args:
        stack: the stack's name.
        kind: the command.
        document: JSON values only, and no secret.
    """
    at = datetime.now(UTC)
    folder = FOLDER / stack
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{at:%Y%m%dT%H%M%S.%f}-{kind}.json"
    path.write_text(json.dumps({"at": at.isoformat(), "kind": kind, **document}, indent=1) + "\n")
    return path


def kept(stack: str, kind: Kind) -> list[Record]:
    """Return what was kept of a stack by one command, the oldest first.

    Raises:
        UsageError: a file there is not one of these.
    """
    return [read(path) for path in sorted((FOLDER / stack).glob(f"*-{kind}.json"))]


def read(path: Path) -> Record:
    """Read one of them.

    Raises:
        UsageError: it is not there, or not one of these.
    """
    try:
        document = json.loads(path.read_text())
        return Record(path, datetime.fromisoformat(document["at"]), document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a record of berth's: {error}") from None
