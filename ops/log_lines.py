"""Log lines of several machines at once: all that is there, merged by time, or as they are written."""

from __future__ import annotations

import heapq
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# RunPod answers 60 requests a minute; this is a third of them.
_LOOK_SECONDS = 3.0


@dataclass(frozen=True)
class Line:
    """One line of a log.

    Args:
        origin: the worker or pod that wrote it.
        text: without its line end.
        time: when it was written, RFC 3339 in UTC; empty where the platform does not say.
        source: `container` for what the server wrote, `system` for what the platform says about it.
    """

    origin: str
    text: str
    time: str = ""
    source: str = "container"


class Log(Protocol):
    """The log of one worker or pod."""

    def lines(self, *, follow: bool) -> Iterator[Line]:
        """Yield the lines after those already given, then end, or go on for as long as the connection lasts.

        Raises:
            OpsError: the platform refuses.
        """


class Platform(Protocol):
    """A platform whose machines write logs."""

    @property
    def name(self) -> str:
        """The platform's name."""

    def origins(self) -> list[str]:
        """Return the workers or pods that there are now.

        Raises:
            OpsError: the platform refuses.
        """

    def log(self, origin: str) -> Log:
        """Return the log of one of them."""


@dataclass(frozen=True)
class OneOf:
    """A platform with only one of its workers or pods."""

    platform: Platform
    origin: str

    @property
    def name(self) -> str:
        """The platform's name."""
        return self.platform.name

    def origins(self) -> list[str]:
        """Return the one for as long as it is there."""
        return [origin for origin in self.platform.origins() if origin.partition(",")[0] == self.origin]

    def log(self, origin: str) -> Log:
        """Return its log."""
        return self.platform.log(origin)


def written(platform: Platform) -> Iterator[Line]:
    """Yield what is in a platform's logs, merged by time; each log's own order stays.

    Raises:
        OpsError: the platform refuses.
    """
    logs = [platform.log(origin) for origin in platform.origins()]
    if logs:
        with ThreadPoolExecutor(len(logs)) as pool:
            read = list(pool.map(lambda log: list(log.lines(follow=False)), logs))
        yield from heapq.merge(*read, key=lambda line: line.time)


def follow(platforms: Sequence[Platform], take: Callable[[Line], None], *, until_gone: bool) -> None:
    """Give lines as they are written, of later workers and pods too; a lost connection is made again.

    Args:
        platforms: whose logs.
        take: is given each line, in the caller's thread.
        until_gone: return once a platform's workers or pods have all gone, rather than wait for others.

    Raises:
        OpsError: a platform refuses.
    """
    events: SimpleQueue[Line | _Present | _Ended | Exception] = SimpleQueue()
    logs: dict[str, Log] = {}
    reading: set[str] = set()
    for platform in platforms:
        _in_background(partial(_look, platform, events), events)
    while True:
        event = events.get()
        if isinstance(event, Exception):
            raise event
        if isinstance(event, Line):
            take(event)
        elif isinstance(event, _Ended):
            reading.discard(event.origin)
        elif until_gone and logs and not event.origins and not reading:
            return
        else:
            for origin in event.origins:
                if origin not in logs:
                    logs[origin] = event.platform.log(origin)
                if origin not in reading:
                    reading.add(origin)
                    _in_background(partial(_read, logs[origin], origin, events), events)


@dataclass(frozen=True)
class _Present:
    """Which workers or pods a platform has now."""

    platform: Platform
    origins: list[str]


@dataclass(frozen=True)
class _Ended:
    """The connection to a log has ended."""

    origin: str


def _in_background(work: Callable[[], None], events: SimpleQueue[Any]) -> None:
    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # raised again where the lines are taken
            events.put(error)

    threading.Thread(target=run, daemon=True).start()


def _look(platform: Platform, events: SimpleQueue[Any]) -> None:
    while True:
        events.put(_Present(platform, platform.origins()))
        time.sleep(_LOOK_SECONDS)


def _read(log: Log, origin: str, events: SimpleQueue[Any]) -> None:
    for line in log.lines(follow=True):
        events.put(line)
    events.put(_Ended(origin))
