"""The smoke test against endpoints that are right, wrong in each way, slow or not there."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from ops import chat, smoke
from ops.endpoints import Endpoint
from ops.smoke import Look, Report

if TYPE_CHECKING:
    from infra.settings import Task
    from tests.ops.conftest import Server


def _check(
    server: Server,
    *,
    key: str = "right-key",
    models: tuple[str, ...] = ("served",),
    task: Task = "generate",
    limit_seconds: float = 20,
    look: Look | None = None,
    asks_for_key: bool = True,
) -> tuple[Report, list[str]]:
    said: list[str] = []
    endpoint = Endpoint(
        "eks", f"{server.url}/v1", f"{server.url}/health", key, "$KEY", asks_for_key=asks_for_key
    )
    [report] = smoke.run(
        [endpoint],
        models,
        task=task,
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
        "completion",
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
    report, _ = _check(server, models=("other",))
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


@pytest.mark.parametrize(
    ("task", "checks"),
    [
        ("embed", ["embeddings"]),
        ("score", ["score", "rerank"]),
        ("classify", ["classes"]),
        ("transcribe", ["transcription"]),
        ("speak", ["speech"]),
    ],
)
def test_each_task_is_asked_for_what_it_does(server: Server, task: Task, checks: list[str]) -> None:
    report, _ = _check(server, task=task)
    assert report.ok
    assert [check.name for check in report.checks] == [
        *checks,
        "refused without a key",
        "refused with a wrong key",
    ]
    assert all(check.latency_seconds for check in report.checks[: len(checks)])
    assert "latency_seconds" in report.as_json()["checks"][0]


@pytest.mark.parametrize(
    ("task", "path", "answer", "name", "problem"),
    [
        ("generate", "/v1/completions", {"choices": []}, "completion", "has not the form"),
        ("embed", "/v1/embeddings", {"data": []}, "embeddings", "2 texts must have as many vectors"),
        (
            "embed",
            "/v1/embeddings",
            {"data": [{"embedding": [1.0, 0.0]}] * 2},
            "embeddings",
            "two different texts have the same vector",
        ),
        ("score", "/v1/score", {"data": [{"score": 0.5}]}, "score", "2 texts must have as many scores"),
        ("score", "/v1/rerank", {"results": []}, "rerank", "not every document is in the answer"),
        ("classify", "/classify", {"data": [{"probs": [2.0]}] * 2}, "classes", "2.0 is no probability"),
        ("classify", "/classify", {"data": [{"probs": []}] * 2}, "classes", "as many lists of probabilities"),
        ("transcribe", "/v1/audio/transcriptions", {"error": "x"}, "transcription", "has not the form"),
        ("speak", "/v1/audio/speech", b"<html>", "speech", "no sound file"),
        ("speak", "/v1/audio/speech", {"id": 1}, "speech", "no sound file"),
    ],
)
def test_an_answer_that_is_none_fails_with_the_reason(
    server: Server, task: Task, path: str, answer: Any, name: str, problem: str
) -> None:
    server.answers[path] = answer
    report, _ = _check(server, task=task)
    assert not report.ok
    assert problem in _problem(report, name)


def test_each_adapter_is_asked_by_its_name(server: Server) -> None:
    report, _ = _check(server, models=("served", "sql", "summary"))
    assert report.ok
    assert [check.name for check in report.checks][2:5] == [
        "completion",
        "completion of sql",
        "completion of summary",
    ]
    asked = [content for path, content in server.asked if path == "/v1/completions"]
    assert [b'"sql"' in content for content in asked] == [False, True, False]


def test_a_model_without_a_chat_template_is_asked_for_completions_alone(server: Server) -> None:
    server.chat_problem = "default chat template is no longer allowed, so you must provide a chat template"
    report, said = _check(server)
    assert report.ok
    assert [check.name for check in report.checks[:1]] == ["completion"]
    assert any("has no chat template" in line for line in said)


def test_another_reason_to_refuse_chat_is_a_failure(server: Server) -> None:
    server.chat_problem = "max_tokens is too large"
    report, _ = _check(server)
    assert "max_tokens is too large" in _problem(report, "answer")


def test_a_server_that_asks_for_no_key_is_not_blamed_for_it(server: Server) -> None:
    server.key = None
    report, _ = _check(server, task="speak", asks_for_key=False)
    assert report.ok
    assert [check.name for check in report.checks] == ["speech"]


@pytest.mark.parametrize(
    ("task", "name", "output", "problem"),
    [
        ("classify", "classes", {"probabilities": [[0.5, 0.5], [1, 0]]}, None),
        ("classify", "classes", {"probabilities": [[0.5, 0.5]]}, "as many lists of probabilities"),
        ("transcribe", "transcription", {"text": "hello", "chunks": []}, None),
        ("transcribe", "transcription", {"error": "no sound"}, "has not the form"),
    ],
)
def test_what_a_queue_s_openai_routes_do_not_take_is_a_job(
    server: Server, task: Task, name: str, output: dict[str, Any], problem: str | None
) -> None:
    jobs = f"{server.url}/v2/x"
    server.answers["/v2/x/run"] = {"id": "1", "status": "COMPLETED"}
    server.answers["/v2/x/runsync"] = {"id": "2", "status": "COMPLETED", "output": output}
    endpoint = Endpoint("runpod", f"{server.url}/v1", "", "right-key", "$KEY", type="QUEUE", jobs=jobs)
    [report] = smoke.run(
        [endpoint], ["served"], task=task, limit_seconds=20, look=lambda _: Look(""), say=lambda *_: None
    )
    assert report.ok == (problem is None)
    if problem is not None:
        assert problem in _problem(report, name)


def test_a_job_that_fails_is_said_with_its_error(server: Server) -> None:
    server.answers["/v2/x/run"] = {"id": "1", "status": "COMPLETED"}
    server.answers["/v2/x/runsync"] = {"id": "2", "status": "FAILED", "error": "the engine is dead"}
    endpoint = Endpoint("runpod", f"{server.url}/v1", "", "right-key", "$KEY", jobs=f"{server.url}/v2/x")
    [report] = smoke.run(
        [endpoint],
        ["served"],
        task="classify",
        limit_seconds=20,
        look=lambda _: Look(""),
        say=lambda *_: None,
    )
    assert _problem(report, "classes") == "the job is FAILED: the engine is dead"
