"""One step of an operation, and how it is counted and shown as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.engine.plugins import Diff
from sandbox.engine.state import Codec, Resource, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

# The steps that make up a replacement, of which only one counts.
_PARTS = {"delete-replaced": None, "create-replacement": "replace"}


@dataclass
class Step:
    """What is done to one resource.

    Args:
        op: `same`, `create`, `update`, `delete`, `create-replacement`, `delete-replaced` or `refresh`.
        urn: the resource.
        old: what was before, where there was something.
        new: what is wanted; None for deletions.
        diff: what made it necessary, where there was something before.
    """

    op: str
    urn: str
    old: Resource | None = None
    new: Resource | None = None
    diff: Diff = field(default_factory=lambda: Diff(changes=None))

    @property
    def name(self) -> str:
        """The resource's logical name."""
        return name_of(self.urn)

    @property
    def type(self) -> str:
        """The resource's type."""
        resource = self.new or self.old
        return resource.type if resource else ""

    @property
    def internal(self) -> bool:
        """Whether it is about a default provider, which nobody wrote into the program."""
        resource = self.new or self.old
        return resource is not None and resource.is_provider and self.name.split("_")[0] == "default"

    def json(self) -> dict[str, Any]:
        """Return the step as `pulumi preview --json` does, with secrets hidden."""
        codec = Codec(None)
        result: dict[str, Any] = {"op": self.op, "urn": self.urn}
        resource = self.new or self.old
        if resource is not None and resource.provider:
            result["provider"] = resource.provider
        if self.old is not None:
            result["oldState"] = codec.resource(self.old)
        if self.new is not None:
            result["newState"] = codec.resource(self.new)
        if self.diff.changed:
            result["diffReasons"] = self.diff.changed
        if self.diff.replaces:
            result["replaceReasons"] = self.diff.replaces
        if self.diff.detailed:
            result["detailedDiff"] = {
                path: {"kind": kind, "inputDiff": False} for path, kind in self.diff.detailed.items()
            }
        return result


def count(steps: Iterable[Step]) -> dict[str, int]:
    """Count the steps by operation; a replacement counts once, as `replace`."""
    counter = Counter(_PARTS.get(step.op, step.op) for step in steps if not step.internal)
    return {op: number for op, number in sorted(counter.items(), key=str) if op is not None}
