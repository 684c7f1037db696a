"""The main job on a real input: up, ask, edit, up, a cloud dies, destroy; on both, with real vLLM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("both_targets")]


@pytest.fixture(scope="module")
def up(clone: Clone) -> Clone:
    clone.run("up", "--stack", "local", "--yes")
    return clone


def _changes(preview: dict[str, object]) -> dict[str, str]:
    """Return the last part of each changed resource's URN with what happens to it."""
    steps = preview["steps"]
    assert isinstance(steps, list)
    return {step["urn"].split("::")[-1]: step["op"] for step in steps if step["op"] != "same"}


def test_outputs_name_both_endpoints_the_model_and_the_image_by_digest(up: Clone) -> None:
    outputs = up.json("output", "--stack", "local")
    assert outputs["endpoints"]["eks"]["url"].startswith("http://")
    assert outputs["endpoints"]["runpod"]["url"].startswith("http://")
    assert "@sha256:" in outputs["image"]
    assert outputs["api_key"] == "[secret]"


def test_smoke_asks_both_endpoints(up: Clone) -> None:
    report = up.json("smoke", "--stack", "local")
    assert "eks" in json.dumps(report)
    assert "runpod" in json.dumps(report)


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
    for path in (up.root / ".sandbox" / "state").rglob("*"):
        assert not path.is_file() or key not in path.read_text(errors="replace"), path


def test_nothing_changes_a_second_time(up: Clone) -> None:
    assert _changes(up.json("preview", "--stack", "local")) == {}
    assert "unchanged" in up.run("up", "--stack", "local", "--yes")


def test_an_edit_changes_just_what_it_names_and_both_endpoints_serve_it(up: Clone) -> None:
    up.edit(lambda config: config["berth:model"].update(max_model_len=1024))
    changes = _changes(up.json("preview", "--stack", "local"))
    assert sorted(changes.values()) == ["update", "update"], changes
    assert any("endpoint" in name for name in changes), changes
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
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_a_cloud_that_died_is_named_and_restarted_by_up(up: Clone) -> None:
    record = json.loads((up.root / ".sandbox" / "clouds" / "clouds.json").read_text())
    aws = next(cloud for cloud in record["clouds"] if cloud["name"] == "aws")
    os.kill(aws["pid"], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(aws["pid"])] if psutil.pid_exists(aws["pid"]) else [], timeout=10)
    output = up.run("up", "--stack", "local", "--yes")
    assert "aws" in output
    assert "restarted" in output
    up.run("smoke", "--stack", "local")
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_destroy_leaves_nothing_and_does_not_touch_the_stack_file(up: Clone) -> None:
    before = up.stack_file.read_bytes()
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
