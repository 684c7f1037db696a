"""Answers in pieces: what the chunks hold, how they are batched, and what a broken or stopped stream is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.conftest import wait_for

if TYPE_CHECKING:
    from tests.image.conftest import Worker

COUNT = [{"role": "user", "content": "count 200"}]


def _openai(**body: Any) -> dict[str, Any]:
    return {"openai_route": "/v1/chat/completions", "openai_input": {"stream": True, **body}}


def test_server_sent_events_pass_unchanged_in_whole_events(shared_worker: Worker) -> None:
    job = shared_worker.platform.run(_openai(messages=COUNT))
    output = job.output()
    assert [chunk for _, chunk in job.chunks] == output
    assert all(chunk.endswith("\n\n") for chunk in output)
    events = "".join(output).split("\n\n")
    assert events[0] == ": keep-alive"
    assert events[-2:] == ["data: [DONE]", ""]
    words = [json.loads(event[6:])["choices"][0]["delta"]["content"] for event in events[1:-2]]
    assert words == [f"{n} " for n in range(200)]


def test_letters_of_several_bytes_are_not_torn(shared_worker: Worker) -> None:
    output = shared_worker.run(**_openai(messages=[{"role": "user", "content": "Grüße 🚢" * 50}]))
    (event,) = [event for event in "".join(output).split("\n\n") if "🚢" in event]
    assert json.loads(event[6:])["choices"][0]["delta"]["content"] == "Grüße 🚢" * 50


@pytest.mark.parametrize("asked", [{"messages": COUNT}, {"prompt": "count 200"}])
def test_plain_streams_are_tokens_and_the_last_is_finished(
    shared_worker: Worker, asked: dict[str, Any]
) -> None:
    job = shared_worker.platform.run({**asked, "stream": True})
    output = job.output()
    assert [chunk for _, chunk in job.chunks] == output
    assert "".join(chunk["token"] for chunk in output) == "".join(f"{n} " for n in range(200))
    assert [chunk["finished"] for chunk in output] == [False] * (len(output) - 1) + [True]
    assert shared_worker.last["body"]["max_tokens"] == 512


def test_the_more_streams_the_fewer_pieces(shared_worker: Worker) -> None:
    held = [_openai(messages=[{"role": "user", "content": "count 9"}], user="hold")] * 100
    others = shared_worker.platform.run_all(held)
    wait_for(lambda: all(job.chunks for job in others))
    job = shared_worker.platform.run(_openai(messages=COUNT))
    assert "199 " in "".join(job.output())
    # 101 streams at 0.4 ms each.
    seconds = job.chunks[-1][0] - job.chunks[0][0]
    assert len(job.chunks) <= 3 + seconds / 0.03
    shared_worker.release()
    assert all(other.output()[-1].endswith("[DONE]\n\n") for other in others)


def test_an_error_in_the_middle_fails_a_plain_stream(shared_worker: Worker) -> None:
    job = shared_worker.platform.run({"prompt": "count 5", "stream": True, "user": "error"})
    error = job.error()
    assert error == {"message": "out of blocks", "type": "InternalServerError", "param": None, "code": 500}
    assert "".join(chunk["token"] for _, chunk in job.chunks).startswith("0 ")


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "hold"},
        {"prompt": "count 9", "stream": True, "user": "hold"},
        _openai(messages=[{"role": "user", "content": "count 9"}], user="hold"),
        {"openai_route": "/v1/completions", "openai_input": {"prompt": "hold"}},
    ],
)
def test_a_stopped_job_aborts_in_vllm_and_is_not_answered(
    shared_worker: Worker, given: dict[str, Any]
) -> None:
    job = shared_worker.platform.run(given)
    beside = shared_worker.platform.run({"prompt": "hold"})
    wait_for(lambda: {job.id, beside.id} <= set(shared_worker.seen["running"]))
    if given.get("stream") or "user" in given.get("openai_input", {}):
        wait_for(lambda: job.chunks)
    shared_worker.platform.stop(job)
    wait_for(lambda: job.id in shared_worker.seen["aborted"])
    shared_worker.release()
    assert beside.output()["response"] == "hold"
    assert not job.answers
    assert shared_worker.run(prompt="again")["response"] == "again"


def test_a_job_stopped_while_its_piece_is_on_the_way_aborts_too(shared_worker: Worker) -> None:
    shared_worker.platform.answers_chunks = False
    try:
        job = shared_worker.platform.run(
            _openai(messages=[{"role": "user", "content": "count 9"}], user="hold")
        )
        wait_for(lambda: job.chunks and job.id in shared_worker.seen["running"])
        shared_worker.platform.stop(job)
        wait_for(lambda: job.id in shared_worker.seen["aborted"])
    finally:
        shared_worker.platform.answers_chunks = True
    assert not job.answers
