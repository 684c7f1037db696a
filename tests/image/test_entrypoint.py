"""The image's entrypoint in front of a fake `vllm`: health, signals, exit status, reasons and secrets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from reasons import find_reason

from tests.containers.conftest import PROJECT, free_port, random_address, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., "Entrypoint"]

SECRET = "sk-very-secret-value"


class Entrypoint:
    """A running entrypoint, its ports and its log."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.host = random_address()
        self.port, self.health_port = free_port(self.host), free_port(self.host)
        self.log_path = folder / "log"
        self.termination_log = folder / "termination-log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROJECT / "image/entrypoint.py", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                    "BERTH_HOST": self.host,
                    "PORT": str(self.port),
                    "PORT_HEALTH": str(self.health_port),
                    "BERTH_TERMINATION_LOG": str(self.termination_log),
                    **environment,
                },
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def health(self) -> int | None:
        """Return the status of the health port, or None where nothing listens."""
        try:
            return httpx.get(f"http://{self.host}:{self.health_port}/ping", trust_env=False).status_code
        except httpx.TransportError:
            return None

    def end(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/vllm"
    command.write_text(f"#!{sys.executable}\n" + (PROJECT / "tests/containers/fake_vllm.py").read_text())
    command.chmod(0o755)
    started: list[Entrypoint] = []

    def start(*arguments: str, **environment: str) -> Entrypoint:
        started.append(Entrypoint(tmp_path, arguments, environment))
        return started[-1]

    yield start
    for entrypoint in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(entrypoint.process.pid, signal.SIGKILL)  # vLLM too, which no container ends here
        entrypoint.process.wait()


def test_health_is_204_while_loading_then_200_then_503_while_draining(run: Run, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    entrypoint = run("m", FAKE_VLLM_HOLD=str(hold))
    wait_for(lambda: entrypoint.health() == 204)
    hold.unlink()
    wait_for(lambda: entrypoint.health() == 200)
    vllm = int(subprocess.check_output(["pgrep", "-P", str(entrypoint.process.pid)]))
    os.kill(vllm, signal.SIGSTOP)  # so that it cannot end before the health port was asked
    entrypoint.process.send_signal(signal.SIGTERM)
    wait_for(lambda: entrypoint.health() == 503)
    os.kill(vllm, signal.SIGCONT)
    assert entrypoint.end() == 0
    assert "drained" in entrypoint.log


def test_arguments_go_on_unchanged_with_host_and_port(run: Run) -> None:
    entrypoint = run("some/model", "--chat-template", "a b")
    wait_for(lambda: entrypoint.health() == 200)
    told = httpx.get(f"http://{entrypoint.host}:{entrypoint.port}/", trust_env=False).json()
    expected = ["serve", "some/model", "--chat-template", "a b"]
    assert told["args"] == [*expected, "--host", entrypoint.host, "--port", str(entrypoint.port)]


def test_caches_on_a_volume_that_cannot_be_written_stay_in_the_container(run: Run) -> None:
    entrypoint = run("m", HF_HOME="/runpod-volume/huggingface", HOME="/home")
    wait_for(lambda: entrypoint.health() == 200)
    told = httpx.get(f"http://{entrypoint.host}:{entrypoint.port}/", trust_env=False).json()
    assert (told["env"]["HF_HOME"], told["env"]["HOME"]) == (None, "/home")
    assert "HF_HOME is not used: /runpod-volume/huggingface cannot be written" in entrypoint.log


def test_no_health_server_where_the_port_is_vllms_own(run: Run) -> None:
    entrypoint = run("m", PORT_HEALTH="")
    wait_for(lambda: "serving" in entrypoint.log)
    assert entrypoint.health() is None


_CONSOLES = {
    "MODEL_NAME": "a/model",
    "MAX_MODEL_LEN": "4096",
    "DTYPE": "bfloat16",
    "GPU_MEMORY_UTILIZATION": "0.9",
    "MAX_NUM_SEQS": "64",
    "OPENAI_SERVED_MODEL_NAME_OVERRIDE": "name",
    "QUANTIZATION": "awq",
    "TENSOR_PARALLEL_SIZE": "2",
    "ENFORCE_EAGER": "True",
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            [],
            [
                "a/model",
                "--max-model-len=4096",
                "--dtype=bfloat16",
                "--gpu-memory-utilization=0.9",
                "--max-num-seqs=64",
                "--served-model-name=name",
                "--quantization=awq",
                "--tensor-parallel-size=2",
                "--enforce-eager",
            ],
        ),
        (
            ["m", "--max_model_len", "1", "--dtype=half", "--no-enforce-eager", "-q", "gptq", "-tp=4"],
            [
                "m",
                *("--max_model_len", "1", "--dtype=half", "--no-enforce-eager", "-q", "gptq", "-tp=4"),
                *("--gpu-memory-utilization=0.9", "--max-num-seqs=64", "--served-model-name=name"),
            ],
        ),
        (["--model", "m"], None),
    ],
)
def test_consoles_variables_become_arguments_where_the_arguments_do_not_say_it(
    run: Run, given: list[str], expected: list[str] | None
) -> None:
    entrypoint = run(*given, **_CONSOLES)
    wait_for(lambda: entrypoint.health() == 200)
    told = httpx.get(f"http://{entrypoint.host}:{entrypoint.port}/", trust_env=False).json()["args"][1:-4]
    assert told == expected or (expected is None and told[:3] == ["--model", "m", "--max-model-len=4096"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_and_the_status_is_vllms(run: Run, number: signal.Signals) -> None:
    entrypoint = run("m", FAKE_VLLM_EXIT="7")
    wait_for(lambda: "serving" in entrypoint.log)
    entrypoint.process.send_signal(number)
    assert entrypoint.end() == 7
    assert "drained" in entrypoint.log
    assert not entrypoint.termination_log.exists()  # it was asked to end: no failure


def test_status_when_vllm_is_killed(run: Run) -> None:
    entrypoint = run("m")
    wait_for(lambda: "serving" in entrypoint.log)
    os.kill(int(subprocess.check_output(["pgrep", "-P", str(entrypoint.process.pid)])), signal.SIGKILL)
    assert entrypoint.end() == 137
    assert "vLLM ended with status 137" in entrypoint.log


def test_the_last_line_and_the_termination_log_name_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("Traceback (most recent call last):\nValueError: it does not fit\n")
    entrypoint = run("m", FAKE_VLLM_FAIL=str(tmp_path / "fail"))
    assert entrypoint.end() == 1
    last = entrypoint.log.splitlines()[-1]
    assert last == "berth: vLLM ended with status 1: ValueError: it does not fit"
    assert entrypoint.termination_log.read_text() == "ValueError: it does not fit\n"


def test_a_termination_log_that_cannot_be_written_changes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("ValueError: no\n")
    entrypoint = run(
        "m", FAKE_VLLM_FAIL=str(tmp_path / "fail"), BERTH_TERMINATION_LOG=str(tmp_path / "no/such/folder")
    )
    assert entrypoint.end() == 1
    assert "ValueError: no" in entrypoint.log.splitlines()[-1]


def test_secrets_are_not_in_the_log(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text(f"ValueError: refused with {SECRET} and hf_token_value\n")
    entrypoint = run(
        "m", FAKE_VLLM_FAIL=str(tmp_path / "fail"), VLLM_API_KEY=SECRET, HF_TOKEN="hf_token_value"
    )
    assert entrypoint.end() == 1
    assert "key is ***" in entrypoint.log
    for secret in (SECRET, "hf_token_value"):
        assert secret not in entrypoint.log
        assert secret not in entrypoint.termination_log.read_text()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {"BERTH_DOOR": "window"}, "BERTH_DOOR is 'window'"),
        ((), {"BERTH_DOOR": "queue", "BERTH_DOOR_PYTHON": "/no/python"}, "cannot be started: /no/python: No"),
        ((), {"BERTH_DOOR": "queue", "MAX_CONCURRENCY": "many"}, "MAX_CONCURRENCY is 'many'"),
        (("m", "--max-num-seqs=0"), {"BERTH_DOOR": "queue"}, "--max-num-seqs is '0'"),
        (("m",), {"ENFORCE_EAGER": "perhaps"}, "ENFORCE_EAGER is 'perhaps': it must be one of true, 1"),
        ((), {"PORT": "http"}, "PORT is 'http': it must be a port"),
        ((), {"PORT_HEALTH": "70000"}, "PORT_HEALTH is '70000'"),
        (("m", "--api-key", SECRET), {}, "set the environment variable VLLM_API_KEY"),
        (("m", f"--api_key={SECRET}"), {}, "set the environment variable VLLM_API_KEY"),
        (("m", "--port=1"), {}, "set the environment variable PORT"),
        (("m",), {"PATH": "/nowhere"}, "vllm cannot be started"),
    ],
)
def test_wrong_settings_end_with_64_and_say_which(
    run: Run, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    entrypoint = run(*arguments, **environment)
    assert entrypoint.end() == 64
    assert words in entrypoint.log
    assert words in entrypoint.termination_log.read_text()
    assert SECRET not in entrypoint.log
    assert "Traceback" not in entrypoint.log


def test_a_health_port_in_use_is_named_and_vllm_does_not_stay(run: Run) -> None:
    entrypoint = run("m", BERTH_HOST="192.0.2.1")  # an address that this machine does not have
    assert entrypoint.end() == 64
    assert "PORT_HEALTH: cannot listen on 192.0.2.1" in entrypoint.log


# What vLLM 0.32.0 writes, shortened.
@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            (
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
                "  Value error, User-specified max_model_len (99999) is greater than the derived "
                "max_model_len (max_position_embeddings=32768.0). [type=value_error, input_value=X]\n"
                "    For further information visit https://errors.pydantic.dev\n"
            ),
            (
                "User-specified max_model_len (99999) is greater than the derived "
                "max_model_len (max_position_embeddings=32768.0)."
            ),
        ),
        (
            "                  [model_tag]\nvllm serve: error: unrecognized arguments: --bogus 1\n",
            "unrecognized arguments: --bogus 1",
        ),
        (
            (
                "(Worker pid=9) ERROR 11-21 13:57:04 [multiproc.py:1] OSError: no such weights\n"
                "(EngineCore pid=8) Traceback (most recent call last):\n"
                "(EngineCore pid=8) OSError: no such weights\n"
                "(APIServer pid=7)   File x\n"
                "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause\n"
            ),
            "OSError: no such weights",
        ),
        ("INFO all is well\n", None),
    ],
)
def test_reasons_in_vllms_own_log(log: str, reason: str | None) -> None:
    assert find_reason(log.splitlines()) == reason
