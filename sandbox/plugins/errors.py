"""What can go wrong in a provider, as the engine is to hear it."""

from __future__ import annotations

from typing import Any


class PluginError(Exception):
    """A call failed; the message is one line for the user."""


class NotReadyError(PluginError):
    """The object was made or changed, but did not become ready; state is to keep it.

    Args:
        reasons: why, one line each.
        id_: the object's id.
        outputs: its outputs as far as they are known.
    """

    def __init__(self, reasons: list[str], id_: str, outputs: dict[str, Any]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons, self.id, self.outputs = reasons, id_, outputs
