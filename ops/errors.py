"""The errors that end a command: one clear message and an exit status, never a stack trace."""

from __future__ import annotations


class OpsError(Exception):
    """A command cannot be done or has failed; the message says what, why and what to do."""

    exit_status = 1


class UsageError(OpsError):
    """The command line asks for something that is not there or does not go together."""

    exit_status = 2


class RefusedError(OpsError):
    """A command that cannot be done was not begun, so that there is nothing to record of it."""


class InterruptedCommandError(OpsError):
    """The user interrupted the command with Ctrl-C."""

    exit_status = 130


class SilentFailureError(OpsError):
    """A command has failed, and what there is to say about it is on the screen already."""

    def __init__(self) -> None:
        super().__init__("")
