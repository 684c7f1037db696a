"""What an operation did, or a preview found that it would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.engine import values
from sandbox.engine.steps import Step, count


@dataclass
class Result:
    """The outcome of an operation.

    Args:
        kind: `preview`, `update`, `refresh` or `destroy`.
        steps: all steps, in the order in which they ended.
        raw_outputs: the stack's outputs, with marks on secrets and unknowns.
        settings: the stack's settings, secrets hidden.
        duration_seconds: how long it took.
    """

    kind: str
    steps: list[Step] = field(default_factory=list)
    raw_outputs: values.Properties = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    duration_seconds: float = 0.0

    @property
    def changes(self) -> dict[str, int]:
        """How many resources had, or would have, which operation; `same` is among them."""
        return count(self.steps)

    @property
    def changed(self) -> bool:
        """Whether anything but `same` is among the changes."""
        return bool(set(self.changes) - {"same", "refresh"})

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs for people's eyes: `[secret]` in place of secrets."""
        redacted: dict[str, Any] = values.redact(self.raw_outputs)
        return redacted

    def json(self) -> dict[str, Any]:
        """Return what `pulumi preview --json` prints: steps, changeSummary, duration in nanoseconds."""
        return {
            "config": self.settings,
            "steps": [step.json() for step in self.steps if not step.internal],
            "duration": int(self.duration_seconds * 1e9),
            "changeSummary": self.changes,
        }
