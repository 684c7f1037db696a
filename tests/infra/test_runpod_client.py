"""RunPod's client: what it repeats and what not, pages, errors in words, and a key that nobody sees."""

from __future__ import annotations

import logging
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import tenacity

from infra.runpod import api, connection, objects
from infra.runpod.api import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NoAnswerError,
    NotFoundError,
    RateLimitedError,
    RunpodClient,
    RunpodError,
    ServerError,
    UnauthorizedError,
    ValidationError,
)
from infra.runpod.body import MARKER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "rpa_the_secret_key"
URL = "https://api.runpod.example/v2"

Answer = httpx.Response | Exception


class Service:
    """Answers with what was given, in order, and remembers what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, key: str = KEY) -> RunpodClient:
        return RunpodClient(URL, key, transport=httpx.MockTransport(self))


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_BACK_OFF", tenacity.wait_none())


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have waited."""
    seconds: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", seconds.append)
    return seconds


def _problem(status: int, detail: str, *errors: str, **headers: str) -> httpx.Response:
    document = {"title": "A Title", "status": status, "detail": detail, "errors": list(errors)}
    return httpx.Response(status, json=document, headers=headers)


CALLS: dict[str, Callable[[RunpodClient], Any]] = {
    "GET": lambda client: client.get("/serverless/a", action="read it"),
    "PATCH": lambda client: client.patch("/serverless/a", {"timeout": 5000}, action="change it"),
    "DELETE": lambda client: client.delete("/serverless/a", action="delete it"),
    "POST": lambda client: client.post("/serverless", {"name": "a"}, action="create it"),
}
BROKEN = (
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("timed out"),
    httpx.RemoteProtocolError("closed"),
    httpx.Response(500),
    httpx.Response(503, text="<html>"),
)


@pytest.mark.parametrize("failure", BROKEN, ids=repr)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_what_can_be_done_twice_is_repeated(method: str, failure: Answer) -> None:
    service = Service(failure, failure, httpx.Response(200, json={"id": "a"}))
    CALLS[method](service.client())
    assert [request.method for request in service.asked] == [method] * 3


@pytest.mark.parametrize("failure", BROKEN, ids=repr)
def test_a_creation_whose_end_is_not_known_is_not_repeated(failure: Answer) -> None:
    service = Service(failure)
    with pytest.raises((NoAnswerError, ServerError)):
        CALLS["POST"](service.client())


@pytest.mark.parametrize("method", CALLS)
def test_too_many_requests_are_repeated_when_runpod_says(method: str, waited: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    service = Service(
        _problem(429, "slow down", **{"Retry-After": "7"}),
        _problem(429, "slow down", **{"Retry-After": later}),
        httpx.Response(200, json={"id": "a"}),
    )
    CALLS[method](service.client())
    assert waited[0] == 7
    assert 25 < waited[1] <= 30


def test_a_wait_that_is_too_long_is_left_to_the_user(waited: list[float]) -> None:
    service = Service(_problem(429, "the day's requests are used up", **{"Retry-After": "3600"}))
    with pytest.raises(RateLimitedError, match=r"used up. Try again in 3600 s\.$"):
        CALLS["GET"](service.client())
    assert waited == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 418, 422])
def test_a_refusal_is_not_repeated(status: int) -> None:
    service = Service(_problem(status, "no"))
    with pytest.raises(RunpodError):
        CALLS["GET"](service.client())


def test_attempts_end(waited: list[float]) -> None:
    service = Service(*[httpx.Response(502) for _ in range(6)])
    with pytest.raises(ServerError, match="502 Bad Gateway: the answer gives no reason"):
        CALLS["GET"](service.client())
    assert len(waited) == 5


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, ValidationError),
        (418, RunpodError),
    ],
)
def test_errors_have_types_and_every_listed_field(status: int, kind: type[RunpodError]) -> None:
    service = Service(
        _problem(status, "Request validation failed.", "$: missing property 'name'", "$.x: bad")
    )
    with pytest.raises(kind) as caught:
        CALLS["GET"](service.client())
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.title, error.detail) == (status, "A Title", "Request validation failed.")
    assert error.errors == ("$: missing property 'name'", "$.x: bad")
    assert str(error).startswith(
        f"RunPod: cannot read it: {status} A Title: Request validation failed. "
        "($: missing property 'name'; $.x: bad)."
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(400, json={"message": "of another API"}), "400 Bad Request: of another API"),
        (httpx.Response(400, json={"error": "older still"}), "400 Bad Request: older still"),
        (httpx.Response(400, json=["no object"]), "400 Bad Request: the answer gives no reason"),
        (httpx.Response(400, json={"detail": "two\nlines", "errors": "?"}), "400 Bad Request: two lines"),
    ],
)
def test_an_error_of_another_form_is_one_line_too(answer: httpx.Response, said: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        CALLS["GET"](Service(answer).client())
    assert str(caught.value) == f"RunPod: cannot read it: {said}."


def test_what_is_gone_is_deleted() -> None:
    CALLS["DELETE"](Service(_problem(404, "no such endpoint")).client())


@pytest.mark.parametrize("where", [{"nextCursor": "two/="}, {"pagination": {"nextCursor": "two/="}}])
def test_pages_are_followed_to_the_end(where: dict[str, Any]) -> None:
    service = Service(
        httpx.Response(200, json={"endpoints": [{"id": "a"}], **where}),
        httpx.Response(200, json={"endpoints": [{"id": "b"}], "nextCursor": None}),
    )
    found = service.client().list_all("/serverless", "endpoints", action="list them")
    assert [item["id"] for item in found] == ["a", "b"]
    assert [str(request.url) for request in service.asked] == [
        f"{URL}/serverless",
        f"{URL}/serverless?cursor=two%2F%3D",
    ]


def test_pages_without_an_end_are_refused() -> None:
    pages = [httpx.Response(200, json={"endpoints": [], "nextCursor": "same"}) for _ in range(2)]
    with pytest.raises(NoAnswerError, match=r"the pages of /serverless .* have no end"):
        Service(*pages).client().list_all("/serverless", "endpoints", action="list them")


def test_an_endpoint_is_found_by_its_marker_where_lists_tell_less() -> None:
    ours = {"id": "b", "name": "renamed", "env": {MARKER_VARIABLE: "berth/dev/runpod/1"}}
    service = Service(
        httpx.Response(200, json={"endpoints": [{"id": "a", "name": "llm"}, {"id": "b", "name": "renamed"}]}),
        _problem(404, "deleted since"),
        httpx.Response(200, json=ours),
    )
    assert objects.find_endpoint(service.client(), "llm", "berth/dev/runpod/1") == ours


@pytest.mark.parametrize("document", [{"items": []}, {"endpoints": None}])
def test_an_answer_without_the_list_is_no_empty_list(document: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError, match="has no list 'endpoints'"):
        Service(httpx.Response(200, json=document)).client().list_all("/serverless", "endpoints", action="x")


@pytest.mark.parametrize(
    "answer",
    [
        _problem(400, f"the key {KEY} is odd", f"$: {KEY}"),
        httpx.Response(401, json={"title": KEY}),
        httpx.UnsupportedProtocol(f"bad {KEY}"),
    ],
)
def test_the_key_is_sent_and_never_shown(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    service = Service(*[answer] * 6)
    client = service.client()
    with pytest.raises(RunpodError) as caught:
        CALLS["GET"](client)
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    shown = (repr(client), repr(caught.value), str(vars(caught.value)), caplog.text)
    assert KEY not in "".join(shown)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("key", ["rpa_one\nrpa_two", "rpa_é", "rpa one"])
def test_a_key_that_is_none_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="the API key has characters") as caught:
        Service().client(key)
    assert "rpa" not in str(caught.value)


def test_a_key_out_of_a_file_may_end_in_a_new_line() -> None:
    service = Service(httpx.Response(200, json={}))
    CALLS["GET"](service.client(f"{KEY}\n"))
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_an_error_ends_with_the_setting_that_is_meant() -> None:
    error = BadRequestError("do it", detail="no", status=400).with_hint("See berth:runpod.gpu_pools.")
    assert str(error) == "RunPod: cannot do it: 400: no. See berth:runpod.gpu_pools."
    assert (error.status, error.detail) == (400, "no")


@pytest.mark.parametrize(
    ("configured", "environment", "expected"),
    [
        (URL, {}, URL),
        (URL, {"RUNPOD_REST_V2_API_URL": "https://proxy.example/v2"}, "https://proxy.example/v2"),
        # This machine's sandbox is nowhere else, whatever the environment says.
        ("http://127.77.0.2:4567/v2", {"RUNPOD_REST_V2_API_URL": URL}, "http://127.77.0.2:4567/v2"),
    ],
)
def test_the_environment_says_where_before_the_stack_does(
    configured: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNPOD_REST_V2_API_URL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert repr(connection.connect(configured, KEY)) == f"RunpodClient({expected!r})"


def test_a_provider_keeps_its_key_out_of_what_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.runpod.provider import EndpointProvider

    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    assert b"_configured_key" not in pickle.dumps(EndpointProvider())
    with pytest.raises(connection.MissingKeyError, match="berth:runpodApiKey"):
        connection.connect(URL, " ")
