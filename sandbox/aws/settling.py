"""Lets what AWS takes its time over (pending, deleting) reach its next state a moment later."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.aws.cloud import Cloud

_DELAY_SECONDS = 2.0


class Settling:
    """Moves the resources of one kind on to their next state, a moment after they entered the last.

    Args:
        cloud: the account.
        event: the name of the change in the journal.
        unsettled: gives region, id and state of the resources that are on their way.
        move: moves one on; called with `region`, `resource_id` and the `state` that it is in.
    """

    def __init__(
        self,
        cloud: Cloud,
        event: str,
        unsettled: Callable[[], Iterable[tuple[str, str, str]]],
        move: Callable[[str, str, str], None],
    ) -> None:
        self._cloud = cloud
        self._event = event
        self._unsettled = unsettled
        self._waiting: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        cloud.on_event(event, move)
        cloud.on_change(self._look)

    def _look(self) -> None:
        for region, resource_id, state in self._cloud.inside(lambda: list(self._unsettled())):
            with self._guard:
                key = (resource_id, state)
                if key in self._waiting:
                    continue
                self._waiting.add(key)
            timer = threading.Timer(_DELAY_SECONDS, self._settle, (region, *key))
            timer.daemon = True
            timer.start()

    def _settle(self, region: str, resource_id: str, state: str) -> None:
        self._cloud.record(self._event, region=region, resource_id=resource_id, state=state)
        with self._guard:
            self._waiting.discard((resource_id, state))
