"""The life of a queue worker: its start, its slots, its drain, and what it says when vLLM ends."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.containers.conftest import wait_for
from tests.image.job_platform import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.conftest import StartWorker, Worker


def _child(worker: Worker, word: str) -> psutil.Process:
    """Return the container's child with a word in its command line."""
    children = psutil.Process(worker.process.pid).children()
    return next(child for child in children if word in " ".join(child.cmdline()))


def test_no_job_is_taken_before_vllm_serves(start_worker: StartWorker, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    worker = start_worker(FAKE_VLLM_HOLD=str(hold))
    job = worker.platform.run({"prompt": "early"})
    # The door is there, with its packages loaded, and asks vLLM alone.
    wait_for(lambda: "key is" in worker.log)
    wait_for(lambda: any("uvloop" in item.path for item in _child(worker, "queue_door").memory_maps()))
    assert not worker.platform.takes
    hold.unlink()
    assert job.output()["response"] == "early"
    assert worker.platform.keys == {KEY}
    wait_for(lambda: worker.platform.pings)
    assert worker.platform.pings[0]["runpod_version"] == "1.12.0"


def test_a_worker_stopped_while_vllm_loads_ends(start_worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    worker = start_worker(FAKE_VLLM_HOLD=str(tmp_path / "hold"))
    wait_for(lambda: "key is" in worker.log)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 128 + signal.SIGTERM
    assert not worker.platform.takes


def test_when_vllm_ends_while_it_loads_so_does_the_container(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    worker = start_worker(FAKE_VLLM_HOLD=str(tmp_path / "hold"))
    wait_for(lambda: "key is" in worker.log)
    wait_for(lambda: any("uvloop" in item.path for item in _child(worker, "queue_door").memory_maps()))
    _child(worker, "fake_engine").kill()
    assert worker.process.wait(10) == 137  # before the door would be killed
    assert worker.log.splitlines()[-1] == "berth: vLLM ended with status 137: its log gives no reason"


@pytest.mark.parametrize(
    ("arguments", "environment", "most"),
    [
        (("m", "--max-num-seqs=8"), {"MAX_CONCURRENCY": "2"}, 2),
        ((), {"MODEL_NAME": "m", "MAX_NUM_SEQS": "4"}, 4),
    ],
)
def test_so_many_jobs_run_at_once(
    start_worker: StartWorker, arguments: tuple[str, ...], environment: dict[str, str], most: int
) -> None:
    worker = start_worker(*arguments, **environment).ready()
    assert worker.platform.takes[0].get("batch_size") == str(most)
    jobs = worker.platform.run_all([{"prompt": "hold"}] * (most + 2))
    wait_for(lambda: len(worker.seen["running"]) == most)
    wait_for(lambda: not worker.platform.polling)  # no job is asked for while no slot is free
    worker.release()
    wait_for(lambda: len(worker.seen["running"]) == 2)
    worker.release()
    assert [job.output()["response"] for job in jobs] == ["hold"] * (most + 2)
    assert worker.seen["most"] == most


def test_many_jobs_are_each_answered_once(shared_worker: Worker) -> None:
    jobs = shared_worker.platform.run_all([{"prompt": f"job {n}"} for n in range(600)])
    assert [job.output()["response"] for job in jobs] == [f"job {n}" for n in range(600)]


def test_sigterm_finishes_what_was_taken_and_takes_no_more(start_worker: StartWorker) -> None:
    worker = start_worker("m", "--shutdown-timeout", "20").ready()
    jobs = worker.platform.run_all(
        [{"prompt": "hold"}, {"prompt": "count 9", "stream": True, "user": "hold"}, {"prompt": "hold"}]
    )
    wait_for(lambda: len(worker.seen["running"]) == 3)
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not worker.platform.polling)
    late = worker.platform.run({"prompt": "late"})
    assert "drained" not in worker.log  # vLLM is not told before its last job has its answer
    worker.release()
    assert worker.end() == 0
    assert [job.output() is not None for job in jobs] == [True] * 3
    assert "drained with 0 running" in worker.log
    assert not late.answers
    assert "vLLM ended" not in worker.log
    assert not worker.termination_log.exists()


def test_a_job_that_comes_after_the_signal_is_done(start_worker: StartWorker) -> None:
    worker = start_worker(RUNPOD_LOG_LEVEL="DEBUG")
    worker.platform.hold_seconds = 5
    worker.ready()
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "Kill worker" in worker.log)
    assert worker.platform.polling  # what was asked for before may still be given
    assert worker.platform.run({"prompt": "ahoy"}).output()["response"] == "ahoy"
    assert worker.end() == 0
    assert len(worker.platform.takes) == 1


def test_a_drain_ends_with_its_budget(start_worker: StartWorker) -> None:
    worker = start_worker("m", "--shutdown-timeout", "1").ready()
    job = worker.platform.run({"prompt": "hold"})
    wait_for(lambda: worker.seen["running"])
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert not job.answers  # the platform gives it to another worker


def test_when_vllm_ends_its_jobs_hear_why_and_so_does_the_platform(start_worker: StartWorker) -> None:
    worker = start_worker().ready()
    jobs = worker.platform.run_all(
        [{"prompt": "hold"}, {"prompt": "count 9", "stream": True, "user": "hold"}, {"prompt": "fail"}]
    )
    wait_for(lambda: {job.id for job in jobs} <= {request["id"] for request in worker.seen["requests"]})
    killer = worker.platform.run({"prompt": "die"})
    reason = "vLLM ended with status 3: OutOfMemoryError: CUDA out of memory"
    for job in (*jobs, killer):
        assert job.error() == {"message": reason, "type": "EngineEnded", "param": None, "code": 503}
    assert worker.process.wait(10) == 3  # before the door would be killed
    assert worker.log.splitlines()[-1] == f"berth: {reason}"
    assert worker.termination_log.read_text() == "OutOfMemoryError: CUDA out of memory\n"
    late = worker.platform.run({"prompt": "late"})
    assert not worker.platform.polling
    assert not late.answers
    assert "Traceback" not in worker.log


def test_when_the_door_ends_so_does_the_container(start_worker: StartWorker) -> None:
    worker = start_worker(BERTH_HOST="").ready()
    assert worker.run(prompt="ahoy")["response"] == "ahoy"
    # vLLM is reached by the door alone.
    listening = {item.laddr.ip for item in _child(worker, "fake_engine").net_connections() if not item.raddr}
    assert listening == {"127.0.0.1"}
    _child(worker, "queue_door").kill()
    assert worker.end() == 137
    assert "the queue door ended with status 137" in worker.log
    assert "drained" in worker.log
