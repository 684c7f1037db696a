"""`berth bench sweep`: what may be tried, what is started with it, and which one is the best."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from infra import serving
from infra.settings import load
from ops import records
from ops.bench.combinations import combinations
from ops.bench.show import remarks
from ops.bench.sweep import Bound, mark_best
from ops.bench.workload import Axes, Workload
from ops.errors import OpsError, UsageError

if TYPE_CHECKING:
    from tests.ops.conftest import Project

FILE = "stacks/Pulumi.dev.yaml"
SMALL = ("--concurrency", "2", "--prompt-tokens", "16,8+64", "--output-tokens", "4", "--requests", "4")


def test_every_value_is_tried_with_every_other_and_the_file_s_own_stay() -> None:
    found = combinations("dev", ["serving.max_num_seqs=64,128", "serving.enforce_eager=true,false"])
    assert [item.changes for item in found] == [
        {"serving.max_num_seqs": 64, "serving.enforce_eager": True},
        {"serving.max_num_seqs": 64, "serving.enforce_eager": False},
        {"serving.max_num_seqs": 128, "serving.enforce_eager": True},
        {"serving.max_num_seqs": 128, "serving.enforce_eager": False},
    ]
    assert [item.settings.serving.max_num_seqs for item in found] == [64, 64, 128, 128]
    assert all(item.settings.model == found[0].settings.model for item in found)
    [listed] = combinations("dev", ["serving.extra_args=[--enable-chunked-prefill]"])
    assert listed.settings.serving.extra_args == ("--enable-chunked-prefill",)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            "serving.max_num_sqs=8",
            f"{FILE}: berth:serving.max_num_sqs: unknown key; did you mean max_num_seqs?",
        ),
        (
            "serving.max_num_seqs=8,-1",
            f"{FILE}: berth:serving.max_num_seqs = -1: must be a whole number, 1 or",
        ),
        ("serving.gpu_memory_utilization=1.5", "gpu_memory_utilization = 1.5: must be a number above 0"),
        ("serving.extra_args=[--max-num-seqs=4]", "has --max-num-seqs, which serving.max_num_seqs decides"),
    ],
)
def test_what_no_stack_file_could_say_is_refused_in_the_same_words(given: str, problem: str) -> None:
    with pytest.raises(OpsError) as raised:
        combinations("dev", [given])
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["eks.replicas=1,2"], "only keys of model and serving change what the server does"),
        (["serving.max_num_seqs"], "must be KEY=VALUE,VALUE with a key of the stack file"),
        (["serving.max_num_seqs=[8"], "must be KEY=VALUE,VALUE"),
        (["model.weights=image"], "on this machine weights come from the hub"),
        (["serving.max_num_seqs=8", "serving.max_num_seqs=16"], "a key is there twice"),
    ],
)
def test_what_is_no_setting_of_the_server_is_refused(given: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        combinations("dev", given)
    assert problem in str(raised.value)


def test_a_context_that_is_too_short_for_the_prompts_is_refused() -> None:
    axes = Axes("2", "600", "8", None, None, None)
    with pytest.raises(UsageError, match=r"berth:model\.max_model_len = 512 is the most"):
        [axes.workloads(item.settings) for item in combinations("dev", ["model.max_model_len=2048,512"])]


def _workload(concurrency: int) -> dict[str, Any]:
    return Workload(concurrency, (512,), 128, 1, 0, 64).as_json()


def _row(sequences: int, *, rate: float, ttft: float = 100, itl: float = 10, **more: Any) -> dict[str, Any]:
    return {
        "changes": {"serving.max_num_seqs": sequences},
        "workload": _workload(16),
        "answered": 64,
        "complete": True,
        "errors": {},
        "ttft_ms": {"p99": ttft},
        "itl_ms": {"p99": itl},
        "output_tokens_per_second": rate,
        **more,
    }


def test_the_best_is_the_fastest_within_the_bound() -> None:
    rows = [
        _row(8, rate=100),
        _row(16, rate=200),
        _row(32, rate=300, ttft=500),
        _row(64, rate=400, itl=90),
        _row(128, rate=500, errors={"HTTP 503": 1}),
        _row(256, rate=600, complete=False),
        _row(16, rate=50, workload=_workload(1)),
        {"changes": {"serving.max_num_seqs": 512}, "answered": 0, "problem": "did not start: no memory"},
    ]
    best = mark_best(rows, Bound(ttft_p99_ms=400, itl_p99_ms=50))
    assert [(row["changes"]["serving.max_num_seqs"], row["workload"]["concurrency"]) for row in best] == [
        (16, 16),
        (16, 1),
    ]
    assert [row.get("within_bound") for row in rows] == [True, True, False, False, False, False, True, None]
    assert mark_best(rows[:4], Bound(None, None)) == [rows[3]]


def test_that_no_combination_holds_the_bound_is_said() -> None:
    rows = [_row(8, rate=100), _row(16, rate=200), _row(8, rate=50, ttft=1, workload=_workload(1))]
    assert mark_best(rows, Bound(ttft_p99_ms=2, itl_p99_ms=None)) == [rows[2]]
    assert [line.plain for line in remarks(rows)] == [
        "16 at once, 512 tokens in, 128 out: no combination is within the bound with every request answered"
    ]


@pytest.fixture
def on_gpu(project: Project) -> dict[str, str]:
    """Have the project on a machine with two GPUs and a vLLM."""
    project.program("vllm", f'exec "{sys.executable}" -m tests.ops.bench_vllm "$@"')
    variables = project.program("nvidia-smi", "echo NVIDIA L4\necho NVIDIA L4")
    return variables | {"FAKE_VLLM_CALLS": str(project.root / "calls")}


def _calls(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.root / "calls").read_text().splitlines()]


def _record(project: Project) -> dict[str, Any]:
    [path] = (project.root / "results/dev").glob("*-bench.json")
    return records.read(path).document


def test_a_combination_without_room_is_a_row_that_says_why_and_not_the_end(
    project: Project, on_gpu: dict[str, str]
) -> None:
    done = project.berth(
        "bench", "sweep", "--stack", "dev", "serving.max_num_seqs=1,512,4", *SMALL, variables=on_gpu
    )
    assert "on this machine (2 × NVIDIA L4)" in done.stdout
    assert "did not start: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB." in done.stdout
    record = _record(project)
    seen = [(row["changes"]["serving.max_num_seqs"], row.get("best", False)) for row in record["rows"]]
    assert seen == [(1, False), (1, False), (512, False), (4, True), (4, True)]
    assert record["endpoints"] == {"this machine": {"gpu": "2 × NVIDIA L4"}}
    changes = {"serving.max_num_seqs": 4, "model.weights": "hub"}
    spec = serving.spec(load(project.root / FILE, changes))
    *_, last = _calls(project)
    assert last["arguments"][: len(spec.args) + 1] == ["serve", *spec.args]
    assert not any(psutil.pid_exists(call["pid"]) for call in _calls(project))


def test_one_that_does_not_get_ready_is_given_up(project: Project, on_gpu: dict[str, str]) -> None:
    options = ("serving.max_num_seqs=3", "serving.startup_timeout_seconds=1", *SMALL)
    done = project.berth("bench", "sweep", "-s", "dev", *options, exit_status=1, variables=on_gpu)
    assert "did not start: not ready in 1 s" in done.stdout
    [call] = _calls(project)
    assert not psutil.pid_exists(call["pid"])


def test_ctrl_c_ends_the_server_and_keeps_what_was_measured(project: Project, on_gpu: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "bench", "sweep", "-s", "dev", "serving.max_num_seqs=4,3", *SMALL],
        cwd=project.root,
        env={"PYTHONPATH": str(project.root), **on_gpu},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    calls = Path(on_gpu["FAKE_VLLM_CALLS"])
    deadline = time.monotonic() + 60
    while not (calls.exists() and len(calls.read_text().splitlines()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    record = _record(project)
    assert [row.get("best") for row in record["rows"]] == [True, True]
    assert not record["complete"]
    assert not any(psutil.pid_exists(call["pid"]) for call in _calls(project))


def test_a_gpu_without_vllm_is_said(project: Project, on_gpu: dict[str, str]) -> None:
    (project.root / "programs" / "vllm").unlink()
    variables = on_gpu | {"PATH": f"{project.root / 'programs'}:/usr/bin:/bin"}
    done = project.berth(
        "bench", "sweep", "-s", "dev", "serving.max_num_seqs=4", exit_status=1, variables=variables
    )
    assert "has GPUs and no `vllm` on PATH: install vllm==" in done.stderr
