"""`berth bench` against endpoints that answer, fail for some, hang, or refuse the key."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ops import records
from ops.bench import matrix
from ops.bench.calls import Target
from ops.bench.figures import Capacity
from ops.bench.workload import Axes, Workload
from ops.errors import UsageError
from ops.stacks import settings_of
from tests.ops.bench_endpoint import KEY, Endpoint, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings import Task
    from tests.ops.conftest import Project

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth@sha256:" + "a" * 64


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as told:
        yield told


def _workload(concurrency: int = 2, *, requests: int = 8, **more: Any) -> Workload:
    given: dict[str, Any] = {"prompt_tokens": (12,), "output_tokens": 6, "batch_size": 1, "audio_seconds": 0}
    return Workload(concurrency=concurrency, requests=requests, **{**given, **more})


def _rows(
    endpoint: Endpoint,
    *workloads: Workload,
    task: Task = "generate",
    limit_seconds: float = 20,
    capacity: Capacity | None = None,
    jobs: str | None = None,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    matrix.run(
        Target(f"{endpoint.url}/v1", KEY, "served", task, jobs),
        workloads,
        limit_seconds=limit_seconds,
        capacity=lambda: capacity,
        report=lambda _: None,
        keep=rows.append,
    )
    return rows


def test_each_workload_gets_exactly_what_it_says_and_figures_that_add_up(endpoint: Endpoint) -> None:
    row, mixed = _rows(
        endpoint,
        _workload(4, requests=12),
        _workload(2, requests=6, prompt_tokens=(3, 40), output_tokens=5),
        capacity=Capacity(2, 7.2),
    )
    assert endpoint.at_once <= 4
    asked = endpoint.completions()
    assert [(len(body["prompt"]), body["max_tokens"]) for body in asked[:12]] == [(12, 6)] * 12
    assert sorted(len(body["prompt"]) for body in asked[12:]) == [3, 3, 3, 40, 40, 40]
    assert len({tuple(body["prompt"]) for body in asked}) == 18  # nothing for a prefix cache
    assert (row["answered"], row["errors"], row["complete"]) == (12, {}, True)
    assert (row["input_tokens"], row["output_tokens"]) == (144, 72)
    assert mixed["input_tokens"] == 129
    assert row["output_tokens_per_second"] == pytest.approx(72 / row["seconds"], rel=0.02)
    assert row["requests_per_second"] == pytest.approx(12 / row["seconds"], rel=0.02)
    # 7.20 USD an hour are 0.2 cents a second, for 216 tokens.
    assert row["usd_per_million_tokens"] == pytest.approx(0.002 * row["seconds"] / 216 * 1e6, rel=0.02)
    assert row["replicas"] == 2
    for name in ("ttft_ms", "e2e_ms", "itl_ms"):
        assert 0 <= row[name]["p50"] <= row[name]["p90"] <= row[name]["p99"]
    assert row["ttft_ms"]["p50"] <= row["e2e_ms"]["p50"]


def test_times_are_those_that_the_endpoint_takes(endpoint: Endpoint) -> None:
    endpoint.first_seconds, endpoint.token_seconds = 0.1, 0.02
    [row] = _rows(endpoint, _workload(1, requests=4))
    assert row["ttft_ms"]["p50"] >= 100
    assert row["itl_ms"]["p90"] >= 20
    assert row["e2e_ms"]["p50"] >= row["ttft_ms"]["p50"] + 5 * 20 - 1
    assert row["seconds"] >= 4 * (0.1 + 5 * 0.02)
    assert row["client_cpu_share"] < 0.5


def test_a_queue_is_asked_for_classes_by_a_job(endpoint: Endpoint) -> None:
    items = [{"index": index, "probs": [0.5, 0.5]} for index in range(3)]
    endpoint.job = {
        "status": "COMPLETED",
        "output": [{"data": items, "usage": {"prompt_tokens": 36}}],
    }
    classes = _workload(1, batch_size=3, output_tokens=0, requests=2)
    [row] = _rows(endpoint, classes, task="classify", jobs=endpoint.url)
    assert (row["answered"], row["input_tokens"]) == (2, 72)
    given = endpoint.asked[0][1]["input"]
    assert (given["route"], len(given["body"]["input"])) == ("/classify", 3)
    endpoint.job = {"status": "FAILED", "error": "the engine is dead"}
    [row] = _rows(endpoint, classes, task="classify", jobs=endpoint.url)
    assert row["error_details"] == {"job FAILED": "the engine is dead"}


def test_a_batch_with_too_few_answers_is_wrong(endpoint: Endpoint) -> None:
    endpoint.job = {"status": "COMPLETED", "output": {"data": [], "usage": {}}}
    [row] = _rows(endpoint, _workload(1, batch_size=3), task="classify", jobs=endpoint.url)
    assert "3 inputs have 0 answers" in row["error_details"]["wrong answer"]


def test_a_pooling_model_is_asked_in_batches(endpoint: Endpoint) -> None:
    [row] = _rows(endpoint, _workload(batch_size=5, output_tokens=0, requests=4), task="embed")
    assert [len(body["input"]) for _, body in endpoint.asked] == [5] * 6
    assert row["inputs_per_second"] == pytest.approx(20 / row["seconds"], rel=0.02)
    assert row["input_tokens"] == 4 * 5 * 12
    assert "ttft_ms" not in row


def test_errors_are_counted_by_kind_and_the_rest_is_measured(endpoint: Endpoint) -> None:
    endpoint.fails_every = 5
    [row] = _rows(endpoint, _workload(1, requests=20))
    assert row["errors"] == {"HTTP 500": 4}
    assert row["error_details"] == {"HTTP 500": "the engine is busy dying"}
    assert (row["answered"], row["output_tokens"], row["complete"]) == (16, 96, True)


def test_an_endpoint_that_hangs_from_the_start_ends_the_run_after_the_limit(endpoint: Endpoint) -> None:
    endpoint.hangs_after = 0
    begun = time.monotonic()
    [row] = _rows(endpoint, _workload(3), _workload(6), limit_seconds=0.5)
    assert time.monotonic() - begun < 10
    assert row["errors"] == {"timeout": 3}
    assert "none of the first 3 requests was answered: timeout" in row["problem"]


def test_an_endpoint_that_hangs_later_is_given_up_and_what_it_answered_is_kept(endpoint: Endpoint) -> None:
    endpoint.hangs_after = 10
    begun = time.monotonic()
    [row] = _rows(endpoint, _workload(2, requests=500), _workload(4), limit_seconds=1)
    assert time.monotonic() - begun < 20
    assert row["answered"] == 8  # two opened the connections
    assert not row["complete"]
    assert "errors in a row: timeout" in row["problem"]
    assert "; workloads left out: 1" in row["problem"]


def test_a_stream_that_breaks_is_no_answer(endpoint: Endpoint) -> None:
    endpoint.cuts_streams = True
    [row] = _rows(endpoint, _workload(1, requests=2))
    assert row["errors"] == {"broken stream": 2}


def test_nobody_listening_is_said(endpoint: Endpoint) -> None:
    endpoint.url = "http://127.0.0.1:9"
    [row] = _rows(endpoint, _workload())
    assert list(row["errors"]) == ["connection: ClientConnectorError"]


def _up(project: Project, endpoint: Endpoint, *, key: str = KEY) -> dict[str, str]:
    """Have the stack `dev` up on RunPod at this endpoint."""
    where = {
        "url": f"{endpoint.url}/v1",
        "health": f"{endpoint.url}/health",
        "id": "ep1",
        "type": "LOAD_BALANCER",
    }
    outputs: dict[str, object] = {
        "endpoints": {"runpod": where},
        "model": "served",
        "task": "generate",
        "image": IMAGE,
    }
    api = {"RUNPOD_REST_V2_API_URL": f"{endpoint.url}/v2", "AWS_EC2_METADATA_DISABLED": "true"}
    return project.pulumi(outputs) | {"RUNPOD_API_KEY": key, **api}


def _kept(project: Project) -> list[dict[str, Any]]:
    return [
        records.read(path).document for path in sorted((project.root / "results/dev").glob("*-bench.json"))
    ]


SMALL = ("--concurrency", "1,2", "--prompt-tokens", "16", "--output-tokens", "4", "--requests", "4")


def test_the_command_announces_shows_and_keeps(project: Project, endpoint: Endpoint) -> None:
    variables = _up(project, endpoint)
    said = project.berth("bench", "--stack", "dev", *SMALL, variables=variables).stdout
    assert "Sends runpod 11 requests in 2 workloads, 176 tokens of prompts and 35 of answers." in said
    assert len(endpoint.asked) == 11
    assert "a GPU and hour (the table that ships" in said
    assert "p50 p90 p99" in said
    [record] = _kept(project)
    assert (record["kind"], record["ok"], record["complete"], record["image"]) == ("bench", True, True, IMAGE)
    assert [row["workload"]["concurrency"] for row in record["rows"]] == [1, 2]
    price = record["endpoints"]["runpod"]["usd_per_gpu_hour"]
    assert [row["replicas"] for row in record["rows"]] == [1, 1]
    assert [row["usd_per_hour"] for row in record["rows"]] == pytest.approx([price, price], rel=1e-3)
    assert all(row["usd_per_million_tokens"] > 0 for row in record["rows"])
    assert KEY not in json.dumps(record) + said


def test_a_wrong_key_is_said_and_nothing_is_measured(project: Project, endpoint: Endpoint) -> None:
    variables = _up(project, endpoint, key="another-key-of-a-test")
    done = project.berth("bench", "--stack", "dev", *SMALL, exit_status=1, variables=variables)
    assert f"{endpoint.url}/v1 refuses the key (HTTP 401: Unauthorized)" in done.stderr
    assert endpoint.asked == []
    assert _kept(project) == []


def test_some_errors_are_exit_status_1(project: Project, endpoint: Endpoint) -> None:
    endpoint.fails_every = 4
    variables = _up(project, endpoint)
    done = project.berth("bench", "--stack", "dev", *SMALL, "--json", exit_status=1, variables=variables)
    document = json.loads(done.stdout)
    assert sum(row["errors"]["HTTP 500"] for row in document["rows"]) >= 1
    assert _kept(project)[0]["rows"] == document["rows"]


def test_ctrl_c_keeps_what_was_measured(project: Project, endpoint: Endpoint) -> None:
    # In the second workload, when each of its two clients has had its connection and one of them an answer.
    endpoint.hangs_after = 9
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "bench", "--stack", "dev", *SMALL],
        cwd=project.root,
        env={"PYTHONPATH": str(project.root), "HF_ENDPOINT": "http://127.0.0.1:9", **_up(project, endpoint)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert endpoint.hanging.wait(60)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "interrupted: what was measured until then is kept" in said
    [record] = _kept(project)
    assert not record["complete"]
    whole, cut = record["rows"]
    assert (whole["complete"], whole["answered"]) == (True, 4)
    assert not cut["complete"]
    assert 1 <= cut["answered"] < 4


def test_what_does_not_fit_the_context_is_refused_before_anything_is_sent(
    project: Project, endpoint: Endpoint
) -> None:
    variables = _up(project, endpoint)
    options = ("--prompt-tokens", "64+30000", "--output-tokens", "3000")
    done = project.berth("bench", "--stack", "dev", *options, exit_status=2, variables=variables)
    assert "--prompt-tokens 30000 and --output-tokens 3000 are 33000 tokens together" in done.stderr
    assert "stacks/Pulumi.dev.yaml: berth:model.max_model_len = " in done.stderr
    assert endpoint.asked == []


USUAL = Axes(None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("stack", "axes", "problem"),
    [
        (
            "dev",
            replace(USUAL, concurrency="1,x"),
            "--concurrency 1,x: must be a list of whole numbers, 1 to ",
        ),
        ("dev", replace(USUAL, concurrency="0"), "--concurrency 0: must be"),
        ("dev", replace(USUAL, prompt_tokens="64+"), "or mixes of them, such as 512,64+1024"),
        (
            "dev",
            replace(USUAL, batch_size="8"),
            "--batch-size goes with the task embed, score, classify, and",
        ),
        ("dev", replace(USUAL, audio_seconds="8"), "--audio-seconds goes with the task transcribe"),
        ("embeddings", replace(USUAL, output_tokens="8"), "and the model's is embed"),
        ("embeddings", replace(USUAL, prompt_tokens="9000"), "berth:model.max_model_len = 512 is the most"),
        ("speech-to-text", replace(USUAL, audio_seconds="601"), "whole numbers, 1 to 600"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(stack: str, axes: Axes, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        axes.workloads(settings_of(stack))


@pytest.mark.parametrize(
    ("stack", "count"), [("dev", 3), ("qwen25-7b", 3), ("embeddings", 4), ("speech-to-text", 4)]
)
def test_the_usual_matrix_fits_every_kind_of_model(stack: str, count: int) -> None:
    settings = settings_of(stack)
    found = USUAL.workloads(settings)
    assert len(found) == count
    for workload in found:
        longest = max(workload.prompt_tokens, default=0) + workload.output_tokens
        assert longest <= settings.model.max_model_len
    mixed = [item for item in USUAL.workloads(settings, mixed=True) if len(item.prompt_tokens) > 1]
    assert bool(mixed) == (stack in {"dev", "qwen25-7b"})
