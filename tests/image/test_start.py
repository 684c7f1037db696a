"""The image's quick start of vLLM: the engine that waits, what is done without it, and the real server."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import start

from sandbox import model, vllm
from tests.containers.conftest import PROJECT, free_port, wait_for

if TYPE_CHECKING:
    from pathlib import Path

START = PROJECT / "image/start.py"
FORK = multiprocessing.get_context("fork")
NAME, REVISION = "Qwen/Qwen2.5-0.5B-Instruct", "7ae557604adf67be50417f59c2c2f167def9a775"


def engine_work(path: Path, **more: object) -> None:
    """What an engine does in these tests: leave word of where it ran."""
    word = {"pid": os.getpid(), "name": multiprocessing.current_process().name, "more": sorted(more)}
    path.write_text(json.dumps({**word, "variable": os.environ.get("SET_LATE")}))


def _run(folder: Path, environment: dict[str, str]) -> str:
    """Run start.py where the command `vllm` says its arguments, and return the output."""
    (folder / "bin").mkdir()
    command = folder / "bin/vllm"
    command.write_text('#!/bin/sh\necho "vllm $*"\n')
    command.chmod(0o755)
    own = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    return subprocess.check_output(
        [sys.executable, START, "m", "--seed", "1"], text=True, timeout=30, env={**own, **environment}
    )


def test_vllms_own_command_where_spawn_is_asked_for(tmp_path: Path) -> None:
    assert _run(tmp_path, {start.METHOD: "spawn"}) == "vllm serve m --seed 1\n"


def test_vllms_own_command_where_there_is_no_vllm_to_import(tmp_path: Path) -> None:
    said, ran = _run(tmp_path, {}).splitlines()
    assert said == "berth: vLLM is started by its own command: No module named 'vllm'"
    assert ran == "vllm serve m --seed 1"


def test_vllms_own_command_where_vllm_is_another_than_expected(tmp_path: Path) -> None:
    engine = tmp_path / "vllm/v1/engine"
    engine.mkdir(parents=True)
    (engine / "core.py").touch()
    (engine / "utils.py").write_text("def get_mp_context(): ...\n")
    said, ran = _run(
        tmp_path, {}
    ).splitlines()  # which ends when nobody holds the output: not the engine either
    assert "No module named 'vllm.entrypoints'" in said
    assert ran == "vllm serve m --seed 1"


def test_the_first_engine_is_the_process_that_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = start.Waiting()
    context = start.Context(waiting, lambda: FORK)
    monkeypatch.setenv("SET_LATE", "yes")
    first = context.Process(target=engine_work, name="EngineCore_DP0", kwargs={"path": tmp_path / "first"})
    first.start()
    first.join(20)
    assert first.exitcode == 0
    told = json.loads((tmp_path / "first").read_text())
    assert told == {"pid": waiting.process.pid, "name": "EngineCore_DP0", "more": [], "variable": "yes"}
    second = context.Process(target=engine_work, name="EngineCore_DP1", kwargs={"path": tmp_path / "second"})
    assert isinstance(second, FORK.Process)
    assert context.Queue  # everything else is the context's own


def test_settings_that_cannot_be_sent_go_to_a_new_process(tmp_path: Path) -> None:
    waiting = start.Waiting()
    arguments = {"path": tmp_path / "word", "lock": threading.Lock()}
    engine = start.Context(waiting, lambda: FORK).Process(target=engine_work, name="E", kwargs=arguments)
    engine.start()
    engine.join(20)
    told = json.loads((tmp_path / "word").read_text())
    assert (told["pid"], told["more"]) == (engine.pid, ["lock"])
    waiting.process.join(20)
    assert waiting.process.exitcode == -signal.SIGKILL


def test_a_process_that_died_waiting_is_replaced(tmp_path: Path) -> None:
    waiting = start.Waiting()
    waiting.process.kill()
    waiting.process.join(20)
    engine = start.Context(waiting, lambda: FORK).Process(
        target=engine_work, name="E", kwargs={"path": tmp_path / "word"}
    )
    engine.start()
    engine.join(20)
    assert engine.exitcode == 0


def test_nothing_waits_on_when_the_server_ends_without_an_engine() -> None:
    code = "import start; print(start.Waiting().process.pid)"
    path = {"PYTHONPATH": str(START.parent)}
    pid = int(subprocess.check_output([sys.executable, "-c", code], env=path, timeout=30))
    assert not psutil.pid_exists(pid)


def test_a_models_class_is_looked_at_in_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins: Any = types.ModuleType("vllm.plugins")
    plugins.load_general_plugins = lambda: None
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.plugins", plugins)
    here = os.getpid()
    assert start._run_forked(lambda: (os.getpid() != here, "found")) == (True, "found")
    with pytest.raises(RuntimeError, match=r"Error raised in subprocess:(?s:.*)KeyError: 'NO_SUCH_CLASS'"):
        start._run_forked(lambda: os.environ["NO_SUCH_CLASS"])
    with pytest.raises(RuntimeError, match="it ended without a result"):
        start._run_forked(lambda: os._exit(1))


@pytest.mark.e2e
def test_real_vllm_serves_from_the_engine_that_waited(tmp_path: Path) -> None:
    vllm.ensure(print)
    folder = model.ensure(NAME, REVISION, print)
    port, log = free_port("127.0.0.1"), tmp_path / "log"
    environment = {
        **vllm.environment(),
        "PATH": f"{vllm.commands()}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "VLLM_CACHE_ROOT": str(tmp_path / "cache"),  # so that the model is new to it
        "BERTH_FAST_START": "1",
        "HF_HUB_OFFLINE": "1",
        "BERTH_HOST": "127.0.0.1",
        "PORT": str(port),
        "BERTH_TERMINATION_LOG": os.devnull,
    }
    command = [str(vllm.python()), str(PROJECT / "image/entrypoint.py"), str(folder), "--enforce-eager"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--max-model-len", "512", "--served-model-name", "tiny"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: server.poll() is not None or "non-default args" in log.read_text(), 180)
        arguments_read = time.time()
        body = {"model": "tiny", "prompt": "Hello", "max_tokens": 4}

        def answered() -> bool:
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                answer = httpx.post(
                    f"http://127.0.0.1:{port}/v1/completions", json=body, trust_env=False, timeout=60
                )
            except httpx.TransportError:
                return False
            return bool(answer.json()["usage"]["completion_tokens"])

        wait_for(answered, 180)
        said = re.search(r"EngineCore pid=(\d+)", log.read_text())
        assert said is not None
        engine = psutil.Process(int(said[1]))
        assert engine.create_time() < arguments_read
        assert "own command" not in log.read_text()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
