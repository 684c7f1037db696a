"""What is read of vLLM's own counts beside a load, and what is said where nothing can be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ops.endpoints import Endpoint
from ops.engine_metrics import Sampler, Worker, metrics_in
from ops.errors import OpsError
from tests.ops.stub_engine import StubEngine

# Of a real vLLM under load: see tests/observability/record.py.
_RECORDING = Path(__file__).parents[1] / "observability" / "recordings" / "2-load-2.txt"
_READ = {
    "kv_cache_usage": 0.8888888888888888,
    "running": 2.0,
    "waiting": 6.0,
    "generated_tokens": 42.0,
    "preemptions": 0.0,
    "prefix_cache_queries": 832.0,
    "prefix_cache_hits": 0.0,
}


def test_what_vllm_says_is_read() -> None:
    assert metrics_in(_RECORDING.read_text()) == _READ


def test_several_engines_behind_one_server_are_one() -> None:
    text = "".join(
        f'vllm:kv_cache_usage_perc{{engine="{engine}"}} 0.{engine}\n'
        f'vllm:num_requests_running{{engine="{engine}"}} {engine}\n'
        for engine in (2, 3)
    )
    assert metrics_in(text) == {"kv_cache_usage": 0.3, "running": 5.0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [("process_cpu_seconds_total 1.0\n", "none of vLLM's"), ("<html> is no number\n", "Prometheus's format")],
)
def test_what_is_not_vllms_is_said(text: str, problem: str) -> None:
    with pytest.raises(OpsError, match=problem):
        metrics_in(text)


class _Broken:
    platform = "eks"

    def read(self) -> dict[str, dict[str, float]]:
        raise OpsError("the cluster does not answer")


def test_a_worker_is_read_over_time_and_who_does_not_answer_is_said() -> None:
    with StubEngine(metrics=_RECORDING.read_text()) as engine:
        endpoint = Endpoint("runpod", engine.url, "", engine.key, "$KEY")
        with Sampler([Worker(endpoint), _Broken()]) as sampler:
            time.sleep(0.5)  # what is read before the start is not kept
            assert sampler.series() == []
            sampler.start()
            deadline = time.monotonic() + 30
            while not sampler.series() or len(sampler.series()[0]["samples"]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        engine.key = "another-key"
        with pytest.raises(OpsError, match="HTTP 401"):
            Worker(endpoint).read()
    [series] = sampler.series()
    assert (series["platform"], series["engine"]) == ("runpod", "a worker")
    first, second = series["samples"][:2]
    assert {name: value for name, value in first.items() if name != "seconds"} == _READ
    assert 1 <= second["seconds"] - first["seconds"] < 10
    [problem] = sampler.problems()
    assert (problem["platform"], problem["problem"]) == ("eks", "the cluster does not answer")
    assert problem["count"] >= 1
