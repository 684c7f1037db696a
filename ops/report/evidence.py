"""Takes from a stack's records those of its last deployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ops import records
from ops.errors import UsageError
from ops.report.shapes import Bench, Destroy, Leftovers, Load, Smoke, Up

if TYPE_CHECKING:
    from pathlib import Path

_Shape = TypeVar("_Shape", bound=BaseModel)


@dataclass(frozen=True)
class Kept(Generic[_Shape]):
    """A record.

    Args:
        at: when it was made, in UTC.
        file: the name of its file.
        said: what it says.
    """

    at: datetime
    file: str
    said: _Shape


@dataclass(frozen=True)
class Evidence:
    """What is known of a stack's last deployment, each kind the oldest first.

    Args:
        stack: the stack's name.
        up: the last `up`; None where none was recorded, and then every record counts.
        smokes, benches, loads, destroys, leftovers: what was recorded after it.
        older: how many records are of before it.
        unreadable: the files that are no records of this version, each with the reason.
        resources_now: how many resources of each type the state has; None where it cannot be read.
    """

    stack: str
    up: Kept[Up] | None
    smokes: list[Kept[Smoke]]
    benches: list[Kept[Bench]]
    loads: list[Kept[Load]]
    destroys: list[Kept[Destroy]]
    leftovers: list[Kept[Leftovers]]
    older: int = 0
    unreadable: list[str] = field(default_factory=list)
    resources_now: dict[str, int] | None = None

    @property
    def files(self) -> list[tuple[datetime, str]]:
        """Every record that counts: when it was made and its file, in the order of time."""
        kinds = (self.smokes, self.benches, self.loads, self.destroys, self.leftovers)
        first = [] if self.up is None else [(self.up.at, self.up.file)]
        return sorted(first + [(item.at, item.file) for kind in kinds for item in kind])

    @property
    def settings(self) -> dict[str, object] | None:
        """What the stack file said when it was deployed."""
        return self.up.said.settings if self.up else None


def gather(stack: str, resources_now: dict[str, int] | None) -> Evidence:
    """Read the records of a stack.

    Args:
        stack: the stack's name.
        resources_now: what its state has, where that is known.
    """
    folder = records.FOLDER / stack
    unreadable: list[str] = []
    ups = _read(folder, "up", Up, unreadable)
    up = ups[-1] if ups else None
    begun = up.at if up else datetime.min.replace(tzinfo=UTC)
    smokes = _read(folder, "smoke", Smoke, unreadable)
    benches = _read(folder, "bench", Bench, unreadable)
    loads = _read(folder, "load", Load, unreadable)
    destroys = _read(folder, "destroy", Destroy, unreadable)
    leftovers = _read(folder, "leftovers", Leftovers, unreadable)
    older = len(ups[:-1]) + sum(
        item.at < begun for kind in (smokes, benches, loads, destroys, leftovers) for item in kind
    )
    return Evidence(
        stack=stack,
        up=up,
        smokes=_since(begun, smokes),
        benches=_since(begun, benches),
        loads=_since(begun, loads),
        destroys=_since(begun, destroys),
        leftovers=_since(begun, leftovers),
        older=older,
        unreadable=unreadable,
        resources_now=resources_now,
    )


def _since(begun: datetime, kept: list[Kept[_Shape]]) -> list[Kept[_Shape]]:
    return [item for item in kept if item.at >= begun]


def _read(folder: Path, kind: str, shape: type[_Shape], unreadable: list[str]) -> list[Kept[_Shape]]:
    found = []
    for path in sorted(folder.glob(f"*-{kind}.json")):
        try:
            record = records.read(path)
            found.append(Kept(record.at, path.name, shape.model_validate(record.document)))
        except UsageError as error:
            unreadable.append(str(error))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            unreadable.append(f"{path} is of another version of berth: {where}: {first['msg']}")
    return found
