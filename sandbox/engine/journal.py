"""The state while it is being changed: what is begun and what is done is on disk before the next step."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sandbox.engine.errors import EngineError
from sandbox.engine.state import Operation, Resource, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable


class Journal:
    """Merges the resources of this run with those of the last one, as Pulumi's snapshot manager does.

    What this run has dealt with comes first, in the order in which it ended; what is left of the last run
    follows. So every resource stands after those it depends on.

    Args:
        base: the state that the last run left.
        save: stores a snapshot; None for a preview.
    """

    def __init__(self, base: Snapshot, save: Callable[[Snapshot], None] | None) -> None:
        self.base = base
        self._save = save
        self._lock = threading.RLock()
        self._done: set[int] = set()
        self._new: list[Resource] = []
        self._operations: list[Operation] = []
        self.interrupted = list(base.operations)

    def snapshot(self) -> Snapshot:
        """Return the state as of now."""
        with self._lock:
            return Snapshot([*self._new, *self.left()], [*self.interrupted, *self._operations])

    def left(self) -> list[Resource]:
        """Return what this run has not dealt with, in dependency order."""
        return [resource for resource in self.base.resources if id(resource) not in self._done]

    def write(self) -> None:
        """Store the state as of now."""
        with self._lock:
            if self._save is not None:
                self._save(self.snapshot())

    def begin(self, kind: str, resource: Resource) -> Operation:
        """Record that an operation starts."""
        operation = Operation(kind, resource)
        with self._lock:
            self._operations.append(operation)
            try:
                self.write()
            except EngineError:
                self._operations.remove(operation)
                raise
        return operation

    def end(
        self,
        operation: Operation | None = None,
        *,
        gone: Resource | None = None,
        new: Resource | None = None,
        write: bool = True,
    ) -> None:
        """Record that an operation has ended.

        Args:
            operation: the one begun, if one was.
            gone: the entry of the last run that is no more.
            new: the entry that takes its place.
            write: whether it must be on disk at once.
        """
        with self._lock:
            if operation is not None:
                self._operations.remove(operation)
            if gone is not None:
                self._done.add(id(gone))
                self.forget_interrupted(gone.urn, "updating", "deleting")
            if new is not None:
                self._new.append(new)
                if operation is not None and operation.kind == "creating":
                    self.forget_interrupted(new.urn, "creating")
            if write:
                self.write()

    def forget_interrupted(self, urn: str, *kinds: str) -> None:
        """Drop the notes of the last run's unfinished operations on a resource: they are dealt with."""
        self.interrupted = [
            item for item in self.interrupted if item.resource.urn != urn or item.kind not in kinds
        ]

    def adopt(self, resource: Resource) -> None:
        """Add to the last run's resources one that it did not get to record."""
        with self._lock:
            self.base.resources.append(resource)
            self.forget_interrupted(resource.urn, "creating")
            self.write()

    def drop(self, resource: Resource) -> None:
        """Remove a resource of the last run that is no more, and every reference to it."""
        with self._lock:
            self.base.resources.remove(resource)
            for other in self.base.resources:
                other.forget(resource.urn)
