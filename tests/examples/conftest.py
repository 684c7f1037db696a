"""A fine-tuned and merged classifier, and a queue endpoint whose worker serves it with real vLLM."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples import environment
from infra import serving
from infra.settings import load
from sandbox import model, vllm
from sandbox.processes import spawn
from tests.blocks import free_block
from tests.runpod.conftest import KEY, FakeContainer, FakeLauncher, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.runpod.launcher import Launch
    from tests.runpod.conftest import Platform

PROJECT = Path(__file__).resolve().parents[2]
STACK = PROJECT / "stacks/Pulumi.local.yaml"
NAME, REVISION = "harbour/intents", "c" * 40
KEYS = {"ENDPOINT_KEY": KEY}
# A stand-in of these tests alone: others may want one of another kind by the real name.
BASE = ("harbour/base", "b" * 40)
OF_BASE = ("--base", BASE[0], "--revision", BASE[1])


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str


def intents(*commands: list[str], variables: dict[str, str] | None = None) -> list[Done]:
    """Run commands of the example in its environment."""
    result = subprocess.run(
        environment.command("tests.examples.many"),
        input=json.dumps(commands),
        env={**environment.variables(), **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [Done(**done) for done in json.loads(result.stdout)]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter, made as a user makes it; the environment too, if it is not there."""
    folder = tmp_path_factory.mktemp("intents") / "adapter"
    result = subprocess.run(
        [sys.executable, "-P", "-m", "ops", "example", "intents", "finetune", str(folder), *OF_BASE],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "step 20 of 160: loss" in result.stderr
    return folder


@pytest.fixture(scope="session")
def merged(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged model, in a folder of the hub's layout, in which servers find it by its name and commit."""
    hub = tmp_path_factory.mktemp("hub")
    folder = hub / f"models--{NAME.replace('/', '--')}" / "snapshots" / REVISION
    (done,) = intents(["merge", str(adapter), str(folder), *OF_BASE])
    assert done.status == 0, done.err
    return folder


@dataclass
class VllmLauncher(FakeLauncher):
    """Starts the image's entrypoint with the sandbox's vLLM behind it."""

    hub: Path = Path()

    def start(self, launch: Launch) -> FakeContainer:
        self.launches.append(launch)
        launch.directory.mkdir(parents=True)
        process = spawn(
            [sys.executable, PROJECT / "image/entrypoint.py", *(launch.args or ())],
            name=launch.name,
            log_path=launch.log_path,
            env={
                **vllm.environment(),
                **model.hub_environment(),
                **launch.env,
                "PATH": f"{vllm.commands()}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(launch.directory),
                "HF_HUB_CACHE": str(self.hub),
                "BERTH_HOST": launch.address,
                "BERTH_DOOR_PYTHON": sys.executable,
                "BERTH_TERMINATION_LOG": str(launch.directory / "termination-log"),
            },
        )
        self.running.append(FakeContainer(process, launch.directory))
        return self.running[-1]


@dataclass(frozen=True)
class Served:
    """One worker's two doors.

    Attributes:
        vllm: vLLM's own route.
        queue: the queue that the worker takes its jobs from.
    """

    vllm: str
    queue: str


@pytest.fixture(scope="session")
def served(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The merged model on a queue endpoint, with the arguments of a stack that classifies."""
    folder = tmp_path_factory.mktemp("served")
    stack = folder / STACK.name
    text = STACK.read_text().replace(
        "name: Qwen/Qwen2.5-0.5B-Instruct\n", f"name: {NAME}\n    task: classify\n"
    )
    stack.write_text(
        text.replace("7ae557604adf67be50417f59c2c2f167def9a775", REVISION).replace(
            "served_name: qwen2.5-0.5b", "served_name: intents"
        )
    )
    spec = serving.spec(load(stack))
    launcher = VllmLauncher(hub=merged.parents[2])
    platform = start_platform(folder / "runpod", block=free_block(), launcher=launcher)
    try:
        platform.delegate()
        endpoint = platform.create_queue(
            args=shlex.join(spec.args),
            env={**spec.environment, "BERTH_DOOR": "queue", "BERTH_TASK": "classify"},
        )
        _wait_for_worker(platform, endpoint, launcher)
        yield Served(
            f"http://{launcher.launches[-1].address}:{spec.port}/classify",
            f"{platform.cloud.jobs}/{endpoint['id']}/runsync",
        )
    finally:
        platform.cloud.stop()
    assert launcher.alive() == 0


def _wait_for_worker(platform: Platform, endpoint: dict[str, Any], launcher: VllmLauncher) -> None:
    with platform.jobs(endpoint) as jobs:
        job = jobs.post("/run", json={"input": {"prompts": ["Is the gate open?"]}}).json()

        def is_done() -> bool:
            log = launcher.launches[-1].log_path if launcher.launches else None
            assert all(one.poll() is None for one in launcher.running), log and log.read_text()[-3000:]
            try:
                status = jobs.get(f"/status/{job['id']}").json()
            except httpx.TransportError:
                return False
            assert status["status"] != "FAILED", status
            return bool(status["status"] == "COMPLETED")

        wait_until(is_done, "the worker classifies", 400)
