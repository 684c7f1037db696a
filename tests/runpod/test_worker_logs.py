"""A worker's log from outside: which lines a caller gets, by number, by time and by where it was cut off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import Platform, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, str]]:
    """A platform, and the path of the log of a worker that is gone: one that ends."""
    platform = start_platform(tmp_path_factory.mktemp("logs"))
    platform.delegate()
    endpoint = platform.create()
    assert platform.edge(endpoint).get("/v1/models").status_code == 200
    (worker,) = platform.workers(endpoint)
    platform.api.patch(f"/serverless/{endpoint['id']}", json={"workers": {"max": 0}})
    wait_until(lambda: not platform.workers(endpoint), "the worker is gone")
    yield platform, f"/serverless/{endpoint['id']}/workers/{worker['id']}/logs"
    platform.cloud.stop()


def _events(
    log: tuple[Platform, str], cursor: str | None = None, **parameters: Any
) -> list[tuple[str, dict[str, str]]]:
    platform, url = log
    headers = {"Last-Event-ID": cursor} if cursor is not None else {}
    response = platform.api.get(url, params=parameters, headers=headers)
    assert response.status_code == 200, response.text
    events = []
    for event in response.text.split("\n\n")[:-1]:
        first, second = event.split("\n")
        assert first.startswith("id: ")
        assert second.startswith("data: ")
        events.append((first.removeprefix("id: "), json.loads(second.removeprefix("data: "))))
    return events


def test_headers_are_those_of_a_stream(log: tuple[Platform, str]) -> None:
    platform, url = log
    headers = platform.api.get(url).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")


def test_lines_are_chosen_by_source_and_number(log: tuple[Platform, str]) -> None:
    every = _events(log)
    sources = [event["source"] for _, event in every]
    assert set(sources) == {"container", "system"}
    assert [set(event) for _, event in every] == [{"ts", "source", "line"}] * len(every)
    assert _events(log, tail=2) == every[-2:]
    assert _events(log, tail=0) == []
    assert _events(log, tail=5000) == every
    for source in ("container", "system"):
        chosen = [item for item in every if item[1]["source"] == source]
        assert _events(log, source=source) == chosen
        assert _events(log, source=source, tail=1) == chosen[-1:]


def test_a_stream_goes_on_where_it_was_cut_off(log: tuple[Platform, str]) -> None:
    every = _events(log)
    cursor, event = every[1]
    assert _events(log, cursor) == every[2:]
    # By the time alone it is the same, for no two lines of this log are of one moment.
    assert len({event["ts"] for _, event in every}) == len(every)
    assert _events(log, event["ts"]) == every[2:]
    # What was seen is before `since`; what `since` names is wanted.
    assert _events(log, since=event["ts"]) == every[1:]
    assert _events(log, since="2000-01-01T02:00:00+02:00", tail=1) == every
    assert _events(log, since="2100-01-01T00:00:00Z") == []
    # The cursor goes before both others.
    assert _events(log, cursor, since=every[-1][1]["ts"], tail=0) == every[2:]


@pytest.mark.parametrize(
    ("parameters", "cursor"),
    [
        ({"tail": "5001"}, None),
        ({"tail": "-1"}, None),
        ({"tail": "1.0"}, None),
        ({"source": "kernel"}, None),
        ({"since": "yesterday"}, None),
        ({}, "42"),
        ({}, ""),
    ],
)
def test_a_place_that_is_none_is_refused(
    log: tuple[Platform, str], parameters: dict[str, str], cursor: str | None
) -> None:
    platform, url = log
    headers = {"Last-Event-ID": cursor} if cursor is not None else {}
    response = platform.api.get(url, params=parameters, headers=headers)
    assert (response.status_code, len(response.json()["errors"])) == (422, 1)


def test_a_log_of_nothing_is_not_found(log: tuple[Platform, str]) -> None:
    platform, url = log
    for wrong in ("/serverless/none/workers/none/logs", url.replace("/logs", "x/logs")):
        assert platform.api.get(wrong).status_code == 404
