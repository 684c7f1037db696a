"""The main job on a real input: up, ask, edit, up, a cloud dies, destroy; on both, with real vLLM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def up(clone: Clone) -> Clone:
    """Bring the stack up, after a first `up` that is killed while node groups are made."""
    killed = clone.popen("up", "--stack", "local", "--yes")
    clone.wait_for_line(killed, "nodes-gpu-gpu creating")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    clone.run("up", "--stack", "local", "--yes")
    return clone


def _changes(preview: dict[str, Any]) -> dict[str, str]:
    """Return the last part of each changed resource's URN with what happens to it."""
    return {step["urn"].split("::")[-1]: step["op"] for step in preview["steps"] if step["op"] != "same"}


def test_outputs_name_both_endpoints_the_model_and_the_image_by_digest(up: Clone) -> None:
    outputs = up.json("output", "--stack", "local")
    assert outputs["endpoints"]["eks"]["url"].startswith("http://")
    assert outputs["endpoints"]["runpod"]["url"].startswith("http://")
    assert "@sha256:" in outputs["image"]
    assert outputs["api_key"] == "[secret]"


def test_an_up_that_was_killed_made_nothing_twice(up: Clone) -> None:
    assert len(up.aws("ec2", "describe-vpcs", "--filters", "Name=tag:stack,Values=local")["Vpcs"]) == 1
    (cluster,) = up.aws("eks", "list-clusters")["clusters"]
    assert len(up.aws("eks", "list-nodegroups", "--cluster-name", cluster)["nodegroups"]) == 2
    assert not up.state()["checkpoint"]["latest"].get("pending_operations")


def test_smoke_asks_both_endpoints(up: Clone) -> None:
    report = up.json("smoke", "--stack", "local")
    assert report["ok"] is True
    for endpoint in report["endpoints"]:
        assert [check["name"] for check in endpoint["checks"] if check["ok"]] == [
            "answer",
            "streamed answer",
            "refused without a key",
            "refused with a wrong key",
        ]
    assert [endpoint["platform"] for endpoint in report["endpoints"]] == ["eks", "runpod"]


def test_a_wrong_key_is_refused_by_both(up: Clone) -> None:
    outputs = up.json("output", "--stack", "local")
    for endpoint in outputs["endpoints"].values():
        reply = httpx.get(f"{endpoint['url']}/models", headers={"Authorization": "Bearer wrong"}, timeout=60)
        assert reply.status_code == 401


def test_paths_that_the_key_does_not_guard_are_not_reachable_through_the_load_balancer(up: Clone) -> None:
    url = up.json("output", "--stack", "local")["endpoints"]["eks"]["url"].removesuffix("/v1")
    assert httpx.get(f"{url}/metrics", timeout=30).status_code == 404


def test_no_secret_is_in_clear_in_the_state(up: Clone) -> None:
    key = up.run("output", "--stack", "local", "api_key", "--show-secrets").strip().splitlines()[-1]
    assert len(key) > 20
    secrets = [key, *json.loads((up.root / ".sandbox" / "credentials.json").read_text()).values()]
    secrets.remove(next(secret for secret in secrets if secret.startswith("AKIA")))  # an id, not a secret
    for path in (up.root / ".sandbox" / "state").rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_text(errors="replace")], path


def test_nothing_changes_a_second_time_and_the_printed_commands_work(up: Clone) -> None:
    assert _changes(up.json("preview", "--stack", "local")) == {}
    output = up.run("up", "--stack", "local", "--yes")
    assert "95 unchanged" in output
    commands = [line for line in output.splitlines() if "curl" in line]
    assert len(commands) == 2
    for command in commands:
        answer = subprocess.run(
            ["sh", "-c", command], cwd=up.root, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        assert json.loads(answer)["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.skipif(shutil.which("pulumi") is None, reason="the real Pulumi CLI is not on PATH")
def test_the_real_cli_takes_the_stack_over_and_sees_no_changes(up: Clone) -> None:
    command = 'eval "$(./berth env --stack local)" && pulumi preview -s local --expect-no-changes'
    done = subprocess.run(["sh", "-c", command], cwd=up.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "95 unchanged" in done.stdout


def _edit(config: dict[str, Any]) -> None:
    config["berth:model"]["max_model_len"] = 1024
    config["berth:eks"]["replicas"] = 2


def test_an_edit_changes_just_what_it_names_and_both_endpoints_serve_it(up: Clone) -> None:
    up.edit(_edit)
    changes = _changes(up.json("preview", "--stack", "local"))
    assert changes == dict.fromkeys(
        ["model-deployment", "model-disruption-budget", "runpod-endpoint"], "update"
    )
    up.run("up", "--stack", "local", "--yes")
    up.run("smoke", "--stack", "local")
    outputs = up.json("output", "--stack", "local", "--show-secrets")
    environment = up.run("env", "--stack", "local")
    runpod_key = next(
        line.split("=", 1)[1].strip("'\"") for line in environment.splitlines() if "RUNPOD_API_KEY=" in line
    )
    for name, key in (("eks", outputs["api_key"]), ("runpod", runpod_key)):
        reply = httpx.get(
            f"{outputs['endpoints'][name]['url']}/models",
            headers={"Authorization": f"Bearer {key}"},
            timeout=120,
        )
        assert reply.json()["data"][0]["max_model_len"] == 1024
    resources = up.state()["checkpoint"]["latest"]["resources"]
    deployment = next(item for item in resources if item["urn"].endswith("::model-deployment"))
    assert deployment["outputs"]["status"]["readyReplicas"] == 2
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_clouds_that_died_are_named_and_restarted_by_up(up: Clone) -> None:
    record = json.loads((up.root / ".sandbox" / "clouds" / "clouds.json").read_text())
    died = [psutil.Process(cloud["pid"]) for cloud in record["clouds"]]
    for process in died:
        process.kill()
    psutil.wait_procs(died, timeout=10)
    output = up.run("up", "--stack", "local", "--yes")
    for name in ("aws", "runpod"):
        assert f"The sandbox's {name} cloud had died and is restarted" in output
    up.run("smoke", "--stack", "local")
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_destroy_leaves_nothing_and_does_not_touch_the_stack_file(up: Clone) -> None:
    before = up.stack_file.read_bytes()
    interrupted = up.popen("destroy", "--stack", "local", "--yes")
    up.wait_for_line(interrupted, "nodes-system deleting")
    os.killpg(interrupted.pid, signal.SIGINT)
    interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    up.run("destroy", "--stack", "local", "--yes")
    assert up.stack_file.read_bytes() == before
    assert up.state()["checkpoint"]["latest"].get("resources", []) == []
    up.assert_nothing_left()


def test_a_refused_vllm_argument_is_told_with_vllms_own_reason(clone: Clone) -> None:
    clone.edit(lambda config: config["berth:model"].update(max_model_len=9_999_999))
    output = clone.run("up", "--stack", "local", "--yes", exit_status=1)
    assert "max_model_len" in output
    assert "9999999" in output.replace(",", "")
    clone.run("destroy", "--stack", "local", "--yes")
    clone.assert_nothing_left()


def test_the_printed_environment_is_shell(clone: Clone) -> None:
    output = subprocess.run(
        ["sh", "-c", 'eval "$(./berth env --stack local)" && echo "$PULUMI_BACKEND_URL"'],
        cwd=clone.root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == f"file://{clone.root}/.sandbox/state"
