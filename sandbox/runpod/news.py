"""Tells waiting tasks that something has changed; each looks for itself whether that is what it waits for."""

from __future__ import annotations

import asyncio


class News:
    """One thing that changes.

    A task takes `next` before it looks, and waits for it where it has seen nothing: so no change is missed.
    """

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def tell(self) -> None:
        """Wake everyone who waits for the next change."""
        self.next.set()
        self.next = asyncio.Event()
