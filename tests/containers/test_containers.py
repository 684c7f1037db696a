"""Containers: what they run, what they see, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from sandbox.containers import Container, ContainerError
from tests.containers.conftest import PROJECT, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.images import Image, ImageStore

pytestmark = pytest.mark.usefixtures("fake_vllm")


@pytest.fixture
def image(store: ImageStore, pushed: str) -> Image:
    return store.pull(pushed)


class Starter:
    """Starts containers of one image and stops those that are left."""

    def __init__(self, image: Image, folder: Path, address: str) -> None:
        self.image, self.folder, self.address = image, folder, address
        self.port = free_port(address)
        self.containers: list[Container] = []

    def start(self, *args: str, command: list[str] | None = None, **env: str) -> Container:
        name = f"c{len(self.containers)}"
        container = Container.start(
            self.image,
            name=name,
            directory=self.folder / name,
            address=self.address,
            log_path=self.folder / f"{name}.log",
            command=command,
            args=args or None,
            env={"PORT": str(self.port), **env},
        )
        self.containers.append(container)
        return container

    def serving(self, container: Container) -> None:
        wait_for(lambda: "serving" in self.log(container))

    def log(self, container: Container) -> str:
        return container.log_path.read_text()

    def told(self) -> Any:
        return httpx.get(f"http://{self.address}:{self.port}/told", trust_env=False).json()


@pytest.fixture
def starter(image: Image, tmp_path: Path, address: str) -> Iterator[Starter]:
    starter = Starter(image, tmp_path / "run", address)
    yield starter
    for container in starter.containers:
        container.kill()


@pytest.mark.parametrize("program", ["tool", "./bin/tool", "/usr/bin/tool"])
def test_a_program_is_found_where_the_image_has_it(
    program: str, image: Image, tmp_path: Path, address: str
) -> None:
    tool = image.rootfs / "usr/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho found $1\n")
    tool.chmod(0o755)
    image = replace(image, env={"PATH": "/usr/local/bin:/usr/bin"}, workdir="/usr")
    starter = Starter(image, tmp_path / "run", address)
    container = starter.start("it", command=[program])
    wait_for(lambda: container.poll() is not None)
    assert (container.poll(), starter.log(container)) == (0, "found it\n")


def test_runs_the_images_entrypoint_with_the_callers_args_and_env(starter: Starter) -> None:
    container = starter.start("some/model", "--max-model-len", "128", GREETING="hello")
    starter.serving(container)
    told = starter.told()
    assert told["args"] == [
        *("serve", "some/model", "--max-model-len", "128"),
        *("--host", starter.address, "--port", str(starter.port)),
    ]
    assert told["env"]["GREETING"] == "hello"
    assert told["env"]["BERTH_HOST"] == starter.address
    assert told["env"]["HOME"] == str(container.directory / "home")
    assert told["env"]["HF_HOME"] != "/home/vllm/.cache/huggingface"
    assert Path(str(told["cwd"])) == starter.image.rootfs / "home/vllm"
    assert container.poll() is None


def test_stop_is_graceful_and_gives_the_status(starter: Starter) -> None:
    container = starter.start("m", FAKE_VLLM_EXIT="3")
    starter.serving(container)
    assert container.stop(grace_seconds=10) == 3
    assert "drained" in starter.log(container)
    assert container.poll() == 3


def test_what_ignores_the_grace_period_is_killed(starter: Starter) -> None:
    script = "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    container = starter.start("-c", script, command=["python3"])
    wait_for(lambda: "up" in starter.log(container))
    processes = psutil.Process(container.pid).children(recursive=True)
    assert container.stop(grace_seconds=0.2) == 137
    wait_for(lambda: not any(_runs(process.pid) for process in processes))


def test_status_of_a_main_process_ended_by_a_signal(starter: Starter) -> None:
    container = starter.start("-c", "import os; os.kill(os.getpid(), 11)", command=["python3"])
    wait_for(lambda: container.poll() is not None)
    assert container.poll() == 139


def test_children_left_by_the_main_process_are_killed(starter: Starter) -> None:
    container = starter.start("m", FAKE_VLLM_CHILD="1")
    starter.serving(container)
    child = _child(starter.log(container))
    assert container.stop(grace_seconds=10) == 0
    assert not _runs(child)


def test_remove_deletes_the_folder_and_keeps_the_log(starter: Starter) -> None:
    container = starter.start("m")
    starter.serving(container)
    with pytest.raises(ContainerError, match="still runs"):
        container.remove()
    container.stop(5)
    container.remove()
    assert not container.directory.exists()
    assert container.log_path.exists()


def test_a_program_that_is_not_there_is_named(starter: Starter) -> None:
    with pytest.raises(ContainerError, match="'no-such-program': not found"):
        starter.start(command=["no-such-program"])


def test_without_vllms_environment_it_says_what_to_do(
    starter: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BERTH_SANDBOX_VLLM")
    monkeypatch.setenv("BERTH_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(ContainerError, match=r"not installed .*python -m sandbox\.vllm"):
        starter.start("m")


_PARENT = """
import sys, time
from pathlib import Path
from sandbox.containers import Container, ImageStore
pull, directory, address, port = sys.argv[1:]
image = ImageStore(Path(directory) / "images").pull(pull)
container = Container.start(
    image, name="c", directory=Path(directory) / "c", address=address, log_path=Path(directory) / "c.log",
    args=["m"], env={"PORT": port, "FAKE_VLLM_CHILD": "1"},
)
print(container.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["parent", "shim"])
def test_kill_of_what_started_it_leaves_no_process(
    victim: str, pushed: str, tmp_path: Path, address: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    port = free_port(address)
    argv = [sys.executable, "-c", _PARENT, pushed, str(folder), address, str(port)]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert parent.stdout is not None
    shim = int(parent.stdout.readline())
    log = folder / "c.log"
    wait_for(lambda: log.exists() and "serving" in log.read_text())
    below = [process.pid for process in psutil.Process(shim).children(recursive=True)]
    own_session = _child(log.read_text())
    assert own_session in below
    os.kill(parent.pid if victim == "parent" else shim, signal.SIGKILL)
    # What left the group outlives only a shim that is itself killed: nobody is left who knows of it.
    expected = set(below) if victim == "parent" else set(below) - {own_session}
    wait_for(lambda: not any(_runs(pid) for pid in expected))
    for pid in (own_session, parent.pid):
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    parent.wait()


def _child(log: str) -> int:
    return int(log.partition("child ")[2].split()[0])


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
