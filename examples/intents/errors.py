"""What ends a command of this example: one message, no stack trace."""

from __future__ import annotations


class IntentsError(Exception):
    """What was asked for cannot be done; the message says why, and what to do."""
