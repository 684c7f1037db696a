"""The errors that the engine shows to its users, each as one message without a stack trace."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An operation cannot be done or has failed; the message says what, why and what to do."""


class LockedError(EngineError):
    """Another process works on this stack; the message says which."""


class UnsupportedError(EngineError):
    """The program asks for a feature of Pulumi that this engine leaves out; the message names it."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"the embedded engine does not support {feature}: use the Pulumi CLI for it")


class CancelledError(EngineError):
    """The user interrupted the operation."""
