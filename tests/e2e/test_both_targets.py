"""The main job on a real input: up, ask, edit, up, a cloud dies, destroy; on both, with real vLLM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.docs.commands import run_by_the_stack_local
from tests.e2e.documents import type_all

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def refused(clone: Clone) -> str:
    """What an `up` says that goes on after a killed one, with an argument that vLLM refuses."""
    killed = clone.popen("up", "--stack", "local", "--yes", "--no-smoke")
    clone.wait_for_line(killed, "nodes-gpu-gpu creating")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    good = clone.stack_file.read_text()
    clone.edit(lambda config: config["berth:model"].update(max_model_len=9_999_999))
    output = clone.run("up", "--stack", "local", "--yes", "--no-smoke", exit_status=1)
    clone.stack_file.write_text(good)
    return output


@pytest.fixture(scope="module")
def up(clone: Clone, refused: str) -> Clone:
    """Bring the stack up, after one `up` that was killed while node groups were made and one that failed."""
    assert refused
    clone.run("up", "--stack", "local", "--yes", "--no-smoke")
    return clone


def test_a_refused_vllm_argument_is_told_with_vllms_own_reason(refused: str) -> None:
    assert "max_model_len" in refused
    assert "9999999" in refused.replace(",", "")


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
            "completion",
            "refused without a key",
            "refused with a wrong key",
        ]
    assert [endpoint["platform"] for endpoint in report["endpoints"]] == ["eks", "runpod"]


def test_load_is_answered_by_both_and_what_vllm_counts_meanwhile_is_read(up: Clone) -> None:
    kept = up.json("load", *("--stack", "local", "--users", "4", "--ramp", "1", "--seconds", "10"))
    assert kept["ok"], kept["problems"]
    assert {row["platform"] for row in kept["requests"]} == {"eks", "runpod"}
    # Of EKS's pod by port forwarding, of RunPod's worker through its load balancer.
    counted = {engine["platform"]: engine["samples"] for engine in kept["engines"]}
    assert counted.keys() == {"eks", "runpod"}, kept["engine_problems"]
    assert all(samples[-1]["generated_tokens"] > 0 for samples in counted.values())


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
    secrets = [key, *up.credentials().values()]
    secrets.remove(next(secret for secret in secrets if secret.startswith("AKIA")))  # an id, not a secret
    for path in (up.root / ".sandbox" / "state").rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_text(errors="replace")], path


def test_nothing_changes_a_second_time_and_the_printed_commands_work(up: Clone) -> None:
    assert _changes(up.json("preview", "--stack", "local")) == {}
    assert up.json("drift", "--stack", "local")["drift"] is False
    output = up.run("up", "--stack", "local", "--yes", "--no-smoke")
    assert "95 unchanged" in output
    commands = [line for line in output.splitlines() if "curl" in line]
    assert len(commands) == 2
    for command in commands:
        answer = subprocess.run(
            ["sh", "-c", command], cwd=up.root, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        assert json.loads(answer)["choices"][0]["message"]["role"] == "assistant"


def test_the_commands_of_the_documents_do_what_they_are_there_for(up: Clone) -> None:
    def a_pod() -> str:
        # RunPod's workers end when nobody asks; logs take a pod's name too.
        (pod,) = up.kubectl(
            *("get", "pods", "-n", "berth", "-l", "app.kubernetes.io/name=model"),
            *("-o", "jsonpath={.items[*].metadata.name}"),
        ).split()
        return pod

    type_all(up, run_by_the_stack_local(queue=False), a_pod)


@pytest.mark.skipif(shutil.which("pulumi") is None, reason="the real Pulumi CLI is not on PATH")
def test_the_real_cli_takes_the_stack_over_and_sees_no_changes(up: Clone) -> None:
    command = 'eval "$(./berth env --stack local)" && pulumi preview -s local --expect-no-changes'
    done = subprocess.run(["sh", "-c", command], cwd=up.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "95 unchanged" in done.stdout


def _endpoints(up: Clone) -> dict[str, dict[str, Any]]:
    """Return the endpoints of the outputs, each with the headers that open it."""
    outputs = up.json("output", "--stack", "local", "--show-secrets")
    keys = {"eks": outputs["api_key"], "runpod": up.credentials()["runpod_api_key"]}
    return {
        name: {**endpoint, "headers": {"Authorization": f"Bearer {keys[name]}"}}
        for name, endpoint in outputs["endpoints"].items()
    }


def _tokens(endpoint: dict[str, Any], model: str) -> list[str]:
    """Return the tokens of an answer without chance."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Name three harbours."}],
        "temperature": 0,
        "max_tokens": 24,
        "ignore_eos": True,
        "logprobs": True,
    }
    reply = httpx.post(
        f"{endpoint['url']}/chat/completions", headers=endpoint["headers"], json=body, timeout=300
    )
    assert reply.status_code == 200, reply.text
    return [token["token"] for token in reply.json()["choices"][0]["logprobs"]["content"]]


def _edit(config: dict[str, Any]) -> None:
    config["berth:model"]["max_model_len"] = 1024
    config["berth:eks"]["replicas"] = 2


def test_an_edit_changes_just_what_it_names_and_both_endpoints_serve_it(up: Clone) -> None:
    up.edit(_edit)
    changes = _changes(up.json("preview", "--stack", "local"))
    assert changes == dict.fromkeys(
        ["model-deployment", "model-disruption-budget", "runpod-endpoint"], "update"
    )
    output = up.run("up", "--stack", "local", "--yes")
    assert "Does it answer?" in output
    assert "yes" in output.split("Does it answer?")[1]
    for endpoint in _endpoints(up).values():
        reply = httpx.get(f"{endpoint['url']}/models", headers=endpoint["headers"], timeout=120)
        assert reply.json()["data"][0]["max_model_len"] == 1024
    resources = up.state()["checkpoint"]["latest"]["resources"]
    deployment = next(item for item in resources if item["urn"].endswith("::model-deployment"))
    assert deployment["outputs"]["status"]["readyReplicas"] == 2
    assert _changes(up.json("preview", "--stack", "local")) == {}


def _to_queue(config: dict[str, Any]) -> None:
    del config["berth:runpod"]["request_count"]
    config["berth:runpod"].update(endpoint_type="QUEUE", queue_delay_seconds=1)


def test_the_queue_takes_the_load_balancers_place_and_all_three_answer_the_same_tokens(up: Clone) -> None:
    model = up.config["berth:model"]["served_name"]
    before = _endpoints(up)
    tokens = _tokens(before["eks"], model)
    assert len(tokens) == 24
    assert _tokens(before["runpod"], model) == tokens
    up.edit(_to_queue)
    steps = up.json("preview", "--stack", "local")["steps"]
    ops = [(step["urn"].split("::")[-1], step["op"]) for step in steps if step["op"] != "same"]
    assert ops == [("runpod-endpoint", "delete-replaced"), ("runpod-endpoint", "create-replacement")]
    up.run("up", "--stack", "local", "--yes", "--no-smoke")
    queue = _endpoints(up)["runpod"]
    assert queue["id"] != before["runpod"]["id"]
    assert _tokens(queue, model) == tokens
    report = up.json("smoke", "--stack", "local")
    assert report["ok"] is True
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_the_commands_of_the_documents_for_a_queue(up: Clone) -> None:
    queue = _endpoints(up)["runpod"]

    def a_failed_job() -> str:
        job = httpx.post(
            f"{queue['jobs']}/runsync", headers=queue["headers"], json={"input": {}}, timeout=300
        )
        return str(job.json()["id"])

    type_all(up, run_by_the_stack_local(queue=True), a_failed_job)


def _job(queue: dict[str, Any], number: int) -> dict[str, Any]:
    job = {"input": {"prompt": f"Harbour {number} is", "max_tokens": 4, "temperature": 0, "ignore_eos": True}}
    reply = httpx.post(f"{queue['jobs']}/runsync", headers=queue["headers"], json=job, timeout=300)
    done: dict[str, Any] = reply.json()
    return done


def test_jobs_of_the_plain_dialect_are_all_answered_and_seen(up: Clone) -> None:
    queue = _endpoints(up)["runpod"]
    before = up.json("jobs", "--stack", "local")["jobs"]["completed"]
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(partial(_job, queue), range(24)))
    assert [job["status"] for job in done] == ["COMPLETED"] * 24, done
    assert {job["output"]["usage"]["completion_tokens"] for job in done} == {4}
    assert up.json("jobs", "--stack", "local")["jobs"]["completed"] == before + 24
    (worker,) = up.json("workers", "--stack", "local")["workers"]
    assert {job["workerId"] for job in done} == {worker["id"]}
    assert worker["id"] in up.run("logs", "--stack", "local", "--platform", "runpod")


def test_clouds_that_died_are_named_and_restarted_by_up(up: Clone) -> None:
    record = json.loads((up.root / ".sandbox" / "clouds" / "clouds.json").read_text())
    died = [psutil.Process(cloud["pid"]) for cloud in record["clouds"]]
    for process in died:
        process.kill()
    psutil.wait_procs(died, timeout=10)
    output = up.run("up", "--stack", "local", "--yes")
    for name in ("aws", "runpod"):
        assert f"The sandbox's {name} cloud had died and is restarted" in output
    assert _changes(up.json("preview", "--stack", "local")) == {}


def test_destroy_leaves_nothing_and_does_not_touch_the_stack_file(up: Clone) -> None:
    interrupted = up.popen("destroy", "--stack", "local", "--yes")
    up.wait_for_line(interrupted, "nodes-system deleting")
    os.killpg(interrupted.pid, signal.SIGINT)
    interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    up.destroy()


def test_the_printed_environment_is_shell(clone: Clone) -> None:
    output = subprocess.run(
        ["sh", "-c", 'eval "$(./berth env --stack local)" && echo "$PULUMI_BACKEND_URL"'],
        cwd=clone.root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == f"file://{clone.root}/.sandbox/state"
