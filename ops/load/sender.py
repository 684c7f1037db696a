"""Sends a load, in a process of its own: Locust has gevent replace its sockets and threads.

`python -m ops.load.sender` reads an order, one line of JSON, from its standard input, which stays open: at
its end, for example when the parent dies, the load is broken off. On its standard output are JSON lines:

    {"event": "refused", "platform", "problem"}             the first request was not answered; it ends
    {"event": "begun", "web"}                               users begin; the URL of Locust's page, or null
    {"event": "sample", "seconds", "sender_cpu_percent", "platforms"}               every two seconds
    {"event": "ended", "seconds", "rows", "broken_off", "errors"}                   the last
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import gevent

# First, as it changes what the others import.
import locust
import psutil
from gevent.event import Event
from gevent.fileobject import FileObject
from gevent.pool import Pool
from locust.env import Environment
from locust.runners import STATE_STOPPED
from locust.stats import stats_history

from ops.load.asking import Asker, FailedError
from ops.load.mix import Manner, Part
from ops.load.order import Order, Target
from ops.load.tally import Tally

_SAMPLE_SECONDS = 2.0
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
_POLL_SECONDS = 0.2
_FIRST_WORDS, _FIRST_TOKENS = 64, 16
# RunPod takes 10 cancellations a second; what is not cancelled by then ends by its time to live.
_CANCELS_AT_ONCE, _CANCEL_SECONDS = 8, 20.0
_NO_CHAT_TEMPLATE = "chat template"  # vLLM's words for a model that was not made for chat


class _User(locust.User):
    """Asks one endpoint, again as soon as it is answered."""

    abstract = True
    target: Target
    order: Order
    manner: Manner
    tally: Tally
    askers: list[Asker]

    def on_start(self) -> None:
        self.asker = Asker(self.target, self.order, self.manner)
        self.askers.append(self.asker)

    @locust.task
    def ask(self) -> None:
        platform = self.target.platform
        kind, asked = self.asker.pick()
        begun = time.monotonic()
        try:
            answer = self.asker.ask(kind, asked)
        except FailedError as failure:
            self.tally.failed(platform, kind, failure)
            self._tell(kind, time.monotonic() - begun, failure)
            # A door that is shut is not to be run against at the speed of a loop.
            gevent.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
        else:
            self.tally.answered(platform, answer)
            self._tell(kind, answer.seconds, None)

    def _tell(self, kind: str, seconds: float, failure: FailedError | None) -> None:
        """Tell Locust, for its page."""
        self.environment.events.request.fire(
            request_type=self.target.platform,
            name=kind,
            response_time=seconds * 1000,
            response_length=0,
            exception=failure,
            context={},
        )


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def _learn(target: Target, order: Order) -> Manner:
    """Ask an endpoint once, and return how it wants to be asked.

    Raises:
        FailedError: it does not answer.
    """
    manner = Manner()
    asker = Asker(target, order, manner)
    kind, asked = asker.pick()
    made = order.mix is not None and asked.prompt_tokens is not None
    if made:
        asked = Part(kind, 1, _FIRST_TOKENS, _FIRST_WORDS)
    try:
        answer = asker.ask(kind, asked)
    except FailedError as failure:
        if failure.kind != "HTTP 400" or _NO_CHAT_TEMPLATE not in failure.detail:
            raise
        manner.chat = False
        answer = asker.ask(kind, asked)
    if made:
        manner.tokens_per_word = max(1.0, answer.prompt_tokens / _FIRST_WORDS)
    return manner


class _Load:
    """A load and how it ends.

    Args:
        order: what it is to be.
        manners: how each target wants to be asked, in their order.
    """

    def __init__(self, order: Order, manners: list[Manner]) -> None:
        self._order = order
        self._tally = Tally(target.platform for target in order.targets)
        self._askers: list[Asker] = []
        users = [
            type(
                target.platform,
                (_User,),
                {
                    "abstract": False,
                    "target": target,
                    "order": order,
                    "manner": manner,
                    "tally": self._tally,
                    "askers": self._askers,
                },
            )
            for target, manner in zip(order.targets, manners, strict=True)
        ]
        # Those who wait for an answer at the end are waited for: the slowest answers count as well.
        self._environment = Environment(user_classes=users, stop_timeout=order.limit_seconds + 5)
        self._runner = self._environment.create_local_runner()
        self._broken_off = Event()
        self._process = psutil.Process()

    def run(self) -> None:
        """Send it until its time is over or it is broken off."""
        order = self._order
        gevent.spawn(self._watch_parent)
        web = self._open_page()
        self._begun = time.monotonic()
        self._process.cpu_percent()
        _say("begun", web=web)
        sampler = gevent.spawn(self._sample)
        self._runner.start(order.users, order.users / max(order.ramp_seconds, 1.0))
        while not self._broken_off.wait(_POLL_SECONDS):
            if self._elapsed() >= order.seconds or self._runner.state == STATE_STOPPED:
                break
        if self._broken_off.is_set():
            self._environment.stop_timeout = 0.0
        self._runner.stop()
        sampler.kill()
        self._take_sample()
        seconds = self._elapsed()
        unanswered = [asker for asker in self._askers if asker.job is not None]
        pool = Pool(_CANCELS_AT_ONCE)
        for asker in unanswered:
            pool.spawn(asker.cancel)
        pool.join(timeout=_CANCEL_SECONDS)
        _say(
            "ended",
            seconds=round(seconds, 2),
            rows=self._tally.rows(seconds),
            broken_off=self._broken_off.is_set(),
            errors=[found["msg"] for found in self._runner.exceptions.values()],
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _watch_parent(self) -> None:
        FileObject(os.dup(sys.stdin.fileno()), "rb").read()
        self._broken_off.set()
        self._runner.user_greenlets.kill(block=False)

    def _open_page(self) -> str | None:
        port = self._order.web_port
        if port is None:
            return None
        self._environment.create_web_ui("127.0.0.1", port)
        gevent.spawn(stats_history, self._runner)
        return f"http://127.0.0.1:{port}"

    def _sample(self) -> None:
        self._sampled = self._begun
        while True:
            gevent.sleep(_SAMPLE_SECONDS)
            self._take_sample()

    def _take_sample(self) -> None:
        now = time.monotonic()
        counts = self._runner.user_classes_count
        taken = self._tally.take_interval(now - self._sampled)
        self._sampled = now
        _say(
            "sample",
            seconds=round(now - self._begun, 2),
            sender_cpu_percent=self._process.cpu_percent(),
            platforms={platform: {"users": counts[platform], **row} for platform, row in taken.items()},
        )


def main() -> None:
    """Read the order, ask each endpoint once, send the load."""
    order = Order.of(json.loads(sys.stdin.readline()))
    manners = []
    for target in order.targets:
        try:
            manners.append(_learn(target, order))
        except FailedError as failure:
            problem = f"{failure.kind}: {failure.detail}" if failure.detail else failure.kind
            _say("refused", platform=target.platform, problem=problem)
            return
    _Load(order, manners).run()


if __name__ == "__main__":
    main()
    # What waits for the parent's end, and Locust's page, would keep the process.
    sys.stdout.flush()
    os._exit(0)
