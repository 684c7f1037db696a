"""`berth load` against an endpoint that is right, silent or full: what it counts, says, keeps and refuses."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ops import records
from ops.load import drive
from ops.load.cost import costs
from ops.load.mix import Manner, Mix
from ops.load.record import Bounds, problems
from ops.load.tally import percentiles
from ops.stacks import PROJECT_FOLDER, settings_of
from tests.ops.runpod_platform import typed
from tests.ops.stub_engine import StubEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ops.conftest import Project
    from tests.ops.runpod_platform import Said

_KEY = "right-key"
_QUICK = ("--ramp", "0", "--seconds", "1", "--users", "4")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubEngine]:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "results")
    with StubEngine() as stub:
        yield stub


def _load(
    programs: Project, engine: StubEngine, *arguments: str, exit_status: int = 0, **outputs: object
) -> Said:
    health = engine.url.replace("/v1", "/health")
    described = {"eks": {"url": engine.url, "health": health}}
    variables = programs.pulumi(
        {"model": "served", "models": ["served"], "api_key": _KEY, "endpoints": described, **outputs}
    )
    said = typed("load", "--stack", "dev", "--yes", *arguments, variables=variables, exit_status=exit_status)
    assert _KEY not in said.stdout + said.stderr
    return said


def _kept() -> dict[str, Any]:
    [record] = records.kept("dev", "load")
    assert _KEY not in record.path.read_text()
    return record.document


def test_what_many_users_get_is_said_and_kept(programs: Project, engine: StubEngine) -> None:
    said = _load(programs, engine, "--ramp", "1", "--seconds", "3", "--users", "6", "--mix", "short")
    assert "6 users" in said.stdout
    assert "short: 64 tokens in, 64 out" in said.stdout
    assert "an hour" in said.stdout
    assert "eks: 6 users" in said.stdout
    kept = _kept()
    [row] = kept["requests"]
    assert (row["platform"], row["kind"], row["failed"]) == ("eks", "chat, short", 0)
    # What was counted is what arrived, but for the first one, which asks how the model wants to be asked.
    assert row["requests"] == len(engine.bodies) - 1
    assert row["completion_tokens"] == 4 * row["requests"]
    assert 10 <= row["first_token_ms"]["p50"] < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
    assert kept["ok"]
    assert kept["elapsed_seconds"] >= 3
    ended = sum(
        sample["requests_per_second"] * (sample["seconds"] - before)
        for before, sample in zip(
            [0.0, *(sample["seconds"] for sample in kept["series"]["eks"])],
            kept["series"]["eks"],
            strict=False,
        )
    )
    assert ended == pytest.approx(row["requests"], rel=0.05)
    # The record that tests of the report read is of the same shape.
    example = json.loads((Path(__file__).parent / "data" / "load_record.json").read_text())
    for one, other in (
        (kept, example),
        (row, example["requests"][0]),
        (kept["series"]["eks"][0], example["series"]["eks"][0]),
    ):
        assert one.keys() == other.keys()
    prompts = [body["messages"][0]["content"] for body in engine.bodies[1:]]
    # The endpoint counts two tokens a word, of 64 words; and no prompt comes twice.
    assert {len(prompt.split()) for prompt in prompts} == {32}
    assert len(set(prompts)) == len(prompts)


def test_refusals_are_counted_by_kind(programs: Project, engine: StubEngine) -> None:
    engine.statuses = [429, 503, 503]
    said = _load(programs, engine, *_QUICK, exit_status=1)
    assert "2 x HTTP 503, for example: refused with 503" in said.stdout
    assert "3 of" in said.stderr
    kept = _kept()
    counted: dict[str, int] = {}
    for row in kept["requests"]:
        for kind, failure in row["failures"].items():
            counted[kind] = counted.get(kind, 0) + failure["count"]
    assert counted == {"HTTP 429": 1, "HTTP 503": 2}
    assert not kept["ok"]


def test_answers_that_never_end_are_given_up_and_counted(programs: Project, engine: StubEngine) -> None:
    engine.hangs = True
    begun = time.monotonic()
    said = _load(programs, engine, *_QUICK, "--timeout", "1", exit_status=1)
    assert time.monotonic() - begun < 40
    assert "no whole answer in 1 s" in said.stdout
    assert "eks: no request was answered" in said.stderr


def test_ctrl_c_keeps_and_shows_what_there_is(programs: Project, engine: StubEngine) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while len(engine.bodies) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    said = _load(programs, engine, "--ramp", "0", "--seconds", "300", "--users", "4", exit_status=130)
    kept = _kept()
    assert kept["interrupted"]
    assert not kept["ok"]
    assert sum(row["requests"] for row in kept["requests"]) >= 15
    assert kept["elapsed_seconds"] < 60
    assert "results so far are kept" in said.stderr
    assert "chat, short" in said.stdout


def test_a_wrong_key_is_refused_before_any_load(programs: Project, engine: StubEngine) -> None:
    engine.key = "another-key"
    said = _load(programs, engine, *_QUICK, exit_status=1)
    assert "HTTP 401: Unauthorized" in said.stderr
    assert "no load was sent" in said.stderr
    assert not engine.bodies
    assert records.kept("dev", "load") == []


def test_a_stack_that_is_not_up_says_so(programs: Project, engine: StubEngine) -> None:
    assert "bring it up first" in _load(programs, engine, exit_status=1, endpoints={}).stderr


def test_without_yes_nothing_is_sent_where_nobody_can_be_asked(programs: Project, engine: StubEngine) -> None:
    described = {"eks": {"url": engine.url, "health": engine.url}}
    variables = programs.pulumi({"model": "served", "api_key": _KEY, "endpoints": described})
    said = typed("load", "--stack", "dev", variables=variables, exit_status=2)
    assert "add --yes" in said.stderr
    assert not engine.bodies


def test_the_users_own_prompts_are_sent_as_they_are(
    programs: Project, engine: StubEngine, tmp_path: Path
) -> None:
    mix = tmp_path / "mine.jsonl"
    mix.write_text(
        '{"prompt": "Where is the ship?", "max_tokens": 7}\n\n'
        '{"messages": [{"role": "user", "content": "Hi"}]}\n'
    )
    document = json.loads(_load(programs, engine, *_QUICK, "--mix", str(mix), "--json").stdout)
    assert document["mix"]["name"] == "mine.jsonl"
    assert [row["kind"] for row in document["requests"]] == ["chat, own"]
    sent = {(body["messages"][0]["content"], body.get("max_tokens")) for body in engine.bodies}
    assert sent == {("Where is the ship?", 7), ("Hi", None)}
    assert not any("ignore_eos" in body for body in engine.bodies)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"prompt": "a"}\n{"prompt": 5}', "line 2: prompt"),
        ('{"prompt": "a"}\n\n{"promt": "b"}', "line 3: promt"),
        ("hello", "line 1"),
        ('{"prompt": "a", "messages": []}', "line 1"),
        ('{"max_tokens": 5}', "one of prompt and messages"),
        ("\n", "has no line"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(
    programs: Project, engine: StubEngine, tmp_path: Path, text: str, problem: str
) -> None:
    mix = tmp_path / "mine.jsonl"
    mix.write_text(text)
    said = _load(programs, engine, "--mix", str(mix), exit_status=2)
    assert problem in said.stderr
    assert str(mix) in said.stderr
    assert not engine.bodies


def test_a_model_without_chat_template_is_asked_for_completions(
    programs: Project, engine: StubEngine
) -> None:
    engine.chat_template = False
    _load(programs, engine, *_QUICK, "--mix", "short")
    assert [row["kind"] for row in _kept()["requests"]] == ["completion, short"]


def test_another_task_is_asked_what_its_model_is_for(programs: Project, engine: StubEngine) -> None:
    _load(programs, engine, *_QUICK, task="embed")
    assert [(row["kind"], row["failed"]) for row in _kept()["requests"]] == [("embeddings", 0)]
    said = _load(programs, engine, *_QUICK, "--mix", "long", exit_status=2, task="embed")
    assert "has the task embed" in said.stderr


def test_the_page_is_there_while_the_load_goes_on_and_ends_with_it(
    programs: Project, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr("ops.commands.load._WEB_PORT", port)
    page = f"http://127.0.0.1:{port}/"
    seen: list[httpx.Response] = []

    def look() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            try:
                seen.append(httpx.get(page, trust_env=False))
            except httpx.HTTPError:
                time.sleep(0.1)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    said = _load(programs, engine, "--ramp", "0", "--seconds", "5", "--users", "2", "--web")
    assert page.rstrip("/") in said.stdout
    watcher.join(5)
    [shown] = seen
    assert shown.status_code == 200
    assert _KEY not in shown.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(page, trust_env=False)


def test_too_few_open_files_are_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(Exception, match=r"needs 1200 open files.*allows 1024.*824 users"):
        drive.raise_file_limit(1000)


def test_a_ramp_longer_than_the_load_is_refused(programs: Project, engine: StubEngine) -> None:
    said = _load(programs, engine, "--ramp", "10", "--seconds", "5", exit_status=2)
    assert "the ramp is a part of it" in said.stderr


def test_made_prompts_fit_the_models_longest_sequence() -> None:
    [short, long] = Mix.of("mixed", 512).parts
    assert (short.prompt_tokens, short.max_tokens) == (64, 64)
    assert (long.prompt_tokens, long.max_tokens) == (256, 128)
    assert Mix.of("long", 0).parts[0].prompt_tokens == 2000
    body = long.body("served", Manner(chat=False, tokens_per_word=2.0))
    assert len(body["prompt"].split()) == 128


def test_percentiles_are_measured_values() -> None:
    assert percentiles([0.3, 0.1, 0.2, 0.4], (50, 95, 99)) == {"p50": 200.0, "p95": 400.0, "p99": 400.0}
    assert percentiles([], (50,)) is None


def test_a_load_is_good_enough_within_its_bounds_only() -> None:
    row = {"platform": "eks", "kind": "chat", "requests": 5, "failed": 1, "latency_ms": {"p95": 101.0}}
    sent = drive.Sent(rows=[row])
    assert problems(sent, ["eks"], Bounds(20)) == []
    assert problems(sent, ["eks"], Bounds(19)) == ["eks: 1 of 5 requests failed, 20.0%; 19% may"]
    assert problems(sent, ["eks"], Bounds(20, 101)) == []
    assert problems(sent, ["eks"], Bounds(20, 100)) == ["eks: the p95 of chat is 101 ms; 100 ms is the bound"]
    assert problems(sent, ["eks", "runpod"], Bounds(20)) == ["runpod: no request was answered"]
    assert "KeyError" in problems(drive.Sent(rows=[row], errors=["KeyError"]), ["eks"], Bounds(20))[0]


def test_costs_are_those_of_the_machines_that_load_may_bring() -> None:
    settings = settings_of("dev")
    eks, runpod = costs(settings, ["eks", "runpod"])
    assert settings.eks is not None
    assert settings.runpod is not None
    [group] = settings.eks.gpu_node_groups.values()
    assert eks.what == f"{group.min} to {group.max} x {' or '.join(group.instance_types)} spot"
    table = json.loads((PROJECT_FOLDER / "ops" / "plan" / "prices.json").read_text())
    dearest = max(table["aws"]["usd_per_hour"][name] for name in group.instance_types)
    assert eks.usd_per_hour_most == pytest.approx(group.max * dearest * 0.7)
    worker = max(table["runpod"]["usd_per_second"][pool] for pool in settings.runpod.gpu_pools) * 3600
    assert runpod.usd_per_hour_least == 0
    assert runpod.usd_per_hour_most == pytest.approx(settings.runpod.workers_max * worker)
    assert costs(settings_of("local"), ["eks", "runpod"]) == []
