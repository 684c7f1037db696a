"""The smoke test against endpoints that are right, wrong in each way, slow or not there."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from ops import chat, smoke
from ops.endpoints import Endpoint
from ops.smoke import Look, Report

if TYPE_CHECKING:
    from tests.ops.conftest import Server


def _check(
    server: Server,
    *,
    key: str = "right-key",
    model: str = "served",
    limit_seconds: float = 20,
    look: Look | None = None,
) -> tuple[Report, list[str]]:
    said: list[str] = []
    endpoint = Endpoint("eks", f"{server.url}/v1", f"{server.url}/health", key, "$KEY")
    [report] = smoke.run(
        [endpoint],
        model,
        limit_seconds=limit_seconds,
        look=lambda _: look or Look(""),
        say=lambda _, line: said.append(line),
    )
    return report, said


def _problem(report: Report, name: str) -> str:
    [check] = [check for check in report.checks if check.name == name]
    assert check.problem is not None
    return check.problem


def test_an_endpoint_that_does_its_job_passes_with_figures(server: Server) -> None:
    report, _ = _check(server)
    assert report.ok
    assert [check.name for check in report.checks] == [
        "answer",
        "streamed answer",
        "refused without a key",
        "refused with a wrong key",
    ]
    whole, streamed = (check.answer for check in report.checks[:2])
    assert whole is not None
    assert streamed is not None
    assert whole.text == streamed.text == "Hello there"
    assert whole.completion_tokens == streamed.completion_tokens == 3
    assert whole.first_token_seconds is None
    assert streamed.first_token_seconds is not None
    assert 0 < streamed.first_token_seconds <= streamed.latency_seconds
    assert "right-key" not in repr(report)


def test_an_endpoint_that_lets_everybody_in_fails(server: Server) -> None:
    server.key = None
    report, _ = _check(server)
    assert not report.ok
    assert "anyone who knows the URL" in _problem(report, "refused without a key")
    assert "anyone who knows the URL" in _problem(report, "refused with a wrong key")


def test_a_wrong_key_of_ours_is_said_without_waiting(server: Server) -> None:
    server.health = [401]
    report, _ = _check(server, limit_seconds=600)
    assert "refuses the key" in _problem(report, "ready")


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ([], "ended without [DONE]"),
        (["[DONE]"], "no tokens and no count"),
        ([{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}, "[DONE]"], "has no tokens"),
        (["{not json"], "not a chat completion"),
        ([{"error": {"message": "EngineDeadError"}}, "[DONE]"], "EngineDeadError"),
    ],
)
def test_a_stream_that_is_no_answer_fails_with_the_reason(
    server: Server, stream: list[dict[str, object] | str], problem: str
) -> None:
    server.stream = stream
    report, _ = _check(server)
    assert not report.ok
    assert problem in _problem(report, "streamed answer")


def test_a_model_that_is_not_served_is_told_in_the_endpoints_words(server: Server) -> None:
    report, _ = _check(server, model="other")
    assert _problem(report, "answer") == "HTTP 404: The model `other` does not exist."


def test_an_endpoint_that_hangs_is_given_up_after_the_limit(server: Server) -> None:
    server.hangs = True
    begun = time.monotonic()
    with pytest.raises(chat.ChatError, match="no complete answer in 1 s"):
        chat.ask(f"{server.url}/v1", "right-key", "served", stream=True, limit_seconds=1)
    assert time.monotonic() - begun < 10


def test_a_cold_worker_is_waited_for_and_what_it_does_is_said(server: Server) -> None:
    server.health = [503, 204, 204, 200]
    report, said = _check(server, look=Look("workers: 1 initializing"))
    assert report.ok
    assert report.waited_seconds >= 2
    assert any("HTTP 503: no reason given; workers: 1 initializing" in line for line in said)
    assert any("loads the model" in line for line in said)


def test_one_that_never_gets_ready_is_given_up_after_the_limit_with_its_state(server: Server) -> None:
    server.health = [204]
    report, _ = _check(server, limit_seconds=1.5, look=Look("workers: 1 initializing"))
    assert "not ready in 2 s" in _problem(report, "ready")
    assert "1 initializing" in _problem(report, "ready")
    assert report.waited_seconds < 10


def test_a_worker_that_crashes_ends_the_wait_with_its_reason(server: Server) -> None:
    server.health = [502]
    report, _ = _check(server, limit_seconds=600, look=Look("", "ValueError: max_model_len is too large"))
    assert _problem(report, "ready") == "ValueError: max_model_len is too large"


def test_nobody_listening_is_said_with_the_url(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    report, _ = _check(server, limit_seconds=0.5)
    assert "cannot be reached" in _problem(report, "ready")
    assert server.url in _problem(report, "ready")


def test_the_report_for_programs_has_plain_figures(server: Server) -> None:
    report, _ = _check(server)
    shown = report.as_json()
    assert shown["ok"] is True
    assert shown["checks"][1].keys() == {
        "name",
        "ok",
        "latency_seconds",
        "first_token_seconds",
        "prompt_tokens",
        "completion_tokens",
        "tokens_per_second",
    }
    assert "right-key" not in str(shown)
