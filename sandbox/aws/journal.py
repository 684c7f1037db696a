"""The journal: every change that was answered for, on disk before its answer, to be played again.

One record is a line of JSON, followed by the number of bytes it names and a newline. A record that was cut
short, because the process was killed while writing it, was never answered for: it is dropped.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One change.

    Args:
        sequence: its place, from 1; with the journal's salt it seeds the ids that the change makes.
        time: when it was made, in seconds since 1970.
        detail: what was changed, as JSON.
        body: the bytes that came with it.
    """

    sequence: int
    time: float
    detail: dict[str, Any]
    body: bytes = b""


class Journal:
    """An append-only file of records that only its owner can read.

    Args:
        path: the file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._end = 0

    def records(self) -> Iterator[Record]:
        """Read all whole records from the start, and cut off what follows the last of them."""
        self._end = 0
        with self._path.open("rb") as file:
            while line := file.readline():
                try:
                    head = json.loads(line)
                    size = int(head["size"])
                except (ValueError, KeyError):
                    break
                body = file.read(size + 1)
                if len(body) != size + 1:
                    break
                self._end = file.tell()
                yield Record(head["sequence"], head["time"], head["detail"], body[:-1])
        os.ftruncate(self._file, self._end)

    def append(self, record: Record) -> None:
        """Write a record and wait until the disk has it; all records must have been read before.

        Raises:
            OSError: it could not be written; the file is left as it was before.
        """
        head = {
            "sequence": record.sequence,
            "time": record.time,
            "detail": record.detail,
            "size": len(record.body),
        }
        data = json.dumps(head).encode() + b"\n" + record.body + b"\n"
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
