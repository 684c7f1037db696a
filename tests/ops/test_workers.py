"""`berth workers` against the sandbox's RunPod: what it shows of workers, releases and limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.ops.runpod_platform import Deployed, typed
from tests.runpod.conftest import DIGEST, OTHER_IMAGE, wait_until

if TYPE_CHECKING:
    from tests.ops.conftest import Project
    from tests.runpod.conftest import Platform


@pytest.fixture
def deployed(programs: Project, runpod: Platform) -> Deployed:
    return Deployed(programs, runpod, runpod.create(workers={"min": 1, "max": 1, "idleTimeout": 60}))


def _is_ready(deployed: Deployed) -> bool:
    return any(worker["status"] == "IDLE" for worker in deployed.platform.workers(deployed.endpoint))


def test_a_worker_is_shown_with_its_release_gpu_and_image(deployed: Deployed) -> None:
    wait_until(lambda: _is_ready(deployed), "a worker is ready")
    [worker] = deployed.platform.workers(deployed.endpoint)
    said = deployed.berth("workers").stdout
    [row] = [line for line in said.splitlines() if worker["id"] in line]
    assert "IDLE" in row
    assert "1 × NVIDIA" in row
    assert DIGEST[:19] in row
    assert "stale" not in said
    assert "1 idle; 1 to 1 are allowed" in said
    assert "release 1 is rolled out: it runs on 1 of 1 workers (100 %)" in said
    document = json.loads(deployed.berth("workers", "--json").stdout)
    assert [shown["id"] for shown in document["workers"]] == [worker["id"]]
    assert document["summary"]["idle"] == 1
    assert document["limits"] == {"min": 1, "max": 1}


def test_what_a_release_changed_is_named_without_its_values(deployed: Deployed) -> None:
    api = deployed.platform.api
    secret = "hf_very_secret"
    changed = {"env": {**deployed.endpoint["env"], "HF_TOKEN": secret}, "image": OTHER_IMAGE}
    assert api.patch(f"/serverless/{deployed.endpoint['id']}", json=changed).status_code == 200
    said = deployed.berth("workers", "--json").stdout
    [newest, first] = json.loads(said)["releases"]
    assert [name.lower().rpartition(".")[2][:5] for name in sorted(newest["changed"])] == ["env", "image"]
    assert first["changed"] == []
    assert f"changed: {', '.join(newest['changed'])}" in deployed.berth("workers").stdout
    assert secret not in said


def test_watching_shows_a_change_and_ends_with_ctrl_c(deployed: Deployed) -> None:
    wait_until(lambda: _is_ready(deployed), "a worker is ready")
    with deployed.running("workers", "--watch") as watching:
        watching.until("release 1 is rolled out")
        api = deployed.platform.api
        api.patch(f"/serverless/{deployed.endpoint['id']}", json={"image": OTHER_IMAGE})
        watching.until("release 2")
    assert watching.process.returncode == 130


def test_limits_that_the_platform_lowered_are_said_with_what_to_do(deployed: Deployed) -> None:
    api = deployed.platform.api
    api.patch(f"/serverless/{deployed.endpoint['id']}", json={"workers": {"min": 0, "max": 0}})
    wait_until(lambda: not deployed.platform.workers(deployed.endpoint), "the worker ends")
    said = deployed.berth("workers").stdout
    assert "no workers; 0 to 0 are allowed" in said
    assert "workers.max is 0 on RunPod and 1 in stacks/Pulumi.dev.yaml" in said
    assert "berth up --stack dev" in said


def test_a_worker_that_crashes_is_said_with_where_its_reason_is(programs: Project, runpod: Platform) -> None:
    one = {"min": 1, "max": 1, "idleTimeout": 60}
    deployed = Deployed(programs, runpod, runpod.create(workers=one, args="--refuse"))

    def unhealthy() -> bool:
        return any(worker["status"] == "UNHEALTHY" for worker in runpod.workers(deployed.endpoint))

    wait_until(unhealthy, "the worker gives up")
    said = deployed.berth("workers").stdout
    [worker] = runpod.workers(deployed.endpoint)
    assert f"berth logs --stack dev --worker {worker['id']}` says why" in said


def test_an_endpoint_that_is_gone_is_said_with_how_to_make_it_again(deployed: Deployed) -> None:
    deployed.platform.api.delete(f"/serverless/{deployed.endpoint['id']}")
    for command in ("workers", "logs"):
        said = deployed.berth(command, exit_status=1).stderr
        assert f"RunPod has no endpoint {deployed.endpoint['id']}" in said
        assert "./berth refresh`, then `./berth up`" in said


def test_a_key_that_cannot_be_one_is_refused_before_it_is_sent(deployed: Deployed) -> None:
    said = deployed.berth("workers", exit_status=1, key="rpa_with a space").stderr
    assert "characters that no key has" in said


@pytest.mark.parametrize("command", ["workers", "logs"])
def test_a_wrong_key_is_said_with_where_it_comes_from(deployed: Deployed, command: str) -> None:
    said = deployed.berth(command, exit_status=1, key="rpa_of_somebody_else").stderr
    assert "401" in said
    assert "RUNPOD_API_KEY" in said


@pytest.mark.parametrize("command", ["workers", "logs", "jobs"])
def test_a_stack_that_is_not_up_or_not_on_runpod_is_told_so(programs: Project, command: str) -> None:
    down = programs.pulumi({}) | {"RUNPOD_API_KEY": "k"}
    said = typed(command, "--stack", "dev", exit_status=1, variables=down).stderr
    assert "bring it up first: ./berth up --stack dev" in said
    where = {"eks": {"url": "http://127.0.0.1:9/v1", "health": "http://127.0.0.1:9/health"}}
    elsewhere = programs.pulumi({"endpoints": where, "api_key": "k", "kubeconfig": "{}"})
    arguments = ["--platform", "runpod"] if command == "logs" else []
    said = typed(command, "--stack", "dev", *arguments, exit_status=2, variables=elsewhere).stderr
    assert "the stack dev is not on runpod: it is on eks" in said


def test_watch_and_json_do_not_go_together(deployed: Deployed) -> None:
    assert "--watch is for people" in deployed.berth("workers", "--watch", "--json", exit_status=2).stderr
