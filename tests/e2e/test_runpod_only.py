"""One target alone, and what goes wrong around an `up` or a `destroy`; fast, as no worker is asked for."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def runpod(clone: Clone) -> Clone:
    clone.edit(lambda config: config.update({"berth:targets": ["runpod"]}))
    return clone


def _resources(clone: Clone) -> list[str]:
    return [item["urn"] for item in clone.state()["checkpoint"]["latest"].get("resources", [])]


def _kill_when(clone: Clone, line: str, command: str, with_signal: signal.Signals) -> int:
    process = clone.popen(command, "--stack", "local", "--yes")
    clone.wait_for_line(process, line)
    os.killpg(process.pid, with_signal)
    assert process.stdout is not None
    process.stdout.read()
    return process.wait(timeout=120)


def test_a_port_in_use_is_said_before_anything_is_made(runpod: Clone) -> None:
    with socket.create_server((f"127.{runpod.block}.0.1", 4566)):
        output = runpod.run("up", "--stack", "local", "--yes", "--no-smoke", exit_status=1)
    assert f"127.{runpod.block}.0.1:4566" in output
    assert "in use" in output
    assert "Traceback" not in output


def test_kill_9_during_up_is_recovered_by_the_next_up(runpod: Clone) -> None:
    _kill_when(runpod, "endpoint", "up", signal.SIGKILL)
    runpod.run("up", "--stack", "local", "--yes", "--no-smoke")
    urns = _resources(runpod)
    assert len(urns) == len(set(urns))
    assert not runpod.state()["checkpoint"]["latest"].get("pending_operations")
    keys = runpod.credentials()
    listed = httpx.get(
        f"http://127.{runpod.block}.0.2:4567/v2/serverless",
        headers={"Authorization": f"Bearer {keys['runpod_api_key']}"},
    )
    assert len(listed.json()["endpoints"]) == 1
    assert "unchanged" in runpod.run("up", "--stack", "local", "--yes", "--no-smoke")


def test_nothing_of_kubernetes_is_made_or_runs(runpod: Clone) -> None:
    assert not [urn for urn in _resources(runpod) if "kubernetes" in urn or ":eks/" in urn]
    names = {process.name() for process in runpod.processes()}
    assert not names & {"etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager"}


def test_what_there_is_and_what_was_changed_by_hand_is_told(runpod: Clone) -> None:
    unchanged = runpod.json("drift", "--stack", "local")
    assert (unchanged["drift"], unchanged["changes"]) == (False, [])
    seen = runpod.json("leftovers", "--stack", "local")
    assert {row["what"] for row in seen["found"]} == {
        "RunPod endpoint", "RunPod ECR delegation", "ECR repository", "CodeBuild project", "S3 bucket",
        "log group", "IAM role",
    }  # fmt: skip
    [endpoint] = [row for row in seen["found"] if row["what"] == "RunPod endpoint"]
    key = {"Authorization": f"Bearer {runpod.credentials()['runpod_api_key']}"}
    edited = {"workers": {"idleTimeout": 61}}
    assert httpx.patch(endpoint["where"], json=edited, headers=key).status_code == 200
    changed = runpod.json("drift", "--stack", "local", exit_status=1)["changes"]
    assert [(row["path"], row["before"], row["after"]) for row in changed] == [
        ("workers.idleTimeout", 60, 61)
    ]


def test_the_second_up_at_once_is_refused_and_says_who_holds_the_lock(runpod: Clone) -> None:
    lock = runpod.root / ".sandbox/state/.pulumi/locks/organization/berth/local"
    first = runpod.popen("refresh", "--stack", "local", "--yes")
    while not list(lock.glob("*.json")):
        assert first.poll() is None
    holder = json.loads(next(iter(lock.glob("*.json"))).read_text())["pid"]
    with FileLock(lock.with_name(".local.guard"), timeout=60):  # stopped inside, it would keep the second out
        os.kill(holder, signal.SIGSTOP)  # it is not to be done before the second has seen its lock
    try:
        second = runpod.run("up", "--stack", "local", "--yes", "--no-smoke", exit_status=1)
    finally:
        os.kill(holder, signal.SIGCONT)
    assert "locked by" in second
    assert f"process {holder}" in second
    first.communicate(timeout=120)
    assert first.returncode == 0


def test_ctrl_c_during_destroy_then_destroy_again(runpod: Clone) -> None:
    status = _kill_when(runpod, "delet", "destroy", signal.SIGINT)
    assert status == 130
    runpod.destroy()


def test_ctrl_c_during_up_then_kill_9_during_destroy_then_destroy(runpod: Clone) -> None:
    assert _kill_when(runpod, "creat", "up", signal.SIGINT) == 130
    runpod.run("up", "--stack", "local", "--yes", "--no-smoke")
    _kill_when(runpod, "delet", "destroy", signal.SIGKILL)
    runpod.destroy()
    assert "Nothing of the stack local" in runpod.run("leftovers", "--stack", "local", "--expect-none")
