"""The command line from outside: what it prints, to where, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.ops.conftest import Project, Server


@pytest.mark.parametrize("command", ["up", "output", "smoke"])
def test_a_stack_that_does_not_exist_is_answered_with_those_that_do(project: Project, command: str) -> None:
    said = project.berth(command, "--stack", "lokal", exit_status=2).stderr
    names = sorted(path.stem.removeprefix("Pulumi.") for path in (project.root / "stacks").glob("*.yaml"))
    names.remove("local")
    assert f"there is no stack 'lokal': stacks/ has local, {', '.join(names)}" in said


def test_a_command_without_its_stack_is_wrong_usage(project: Project) -> None:
    assert "--stack" in project.berth("up", exit_status=2).stderr


@pytest.mark.parametrize("stack", ["local", "dev"])
def test_a_misspelt_key_is_said_before_anything_starts(project: Project, stack: str) -> None:
    path = project.root / f"stacks/Pulumi.{stack}.yaml"
    document = yaml.safe_load(path.read_text())
    document["config"]["berth:model"]["max_model_length"] = 4096
    path.write_text(yaml.safe_dump(document))
    variables = project.program("pulumi", "echo started >&2; exit 1")
    said = project.berth("up", "--stack", stack, "--yes", exit_status=1, variables=variables).stderr
    assert f"stacks/Pulumi.{stack}.yaml: berth:model.max_model_length: unknown key; did you mean" in said
    assert "started" not in said
    assert not (project.root / ".sandbox").exists()


@pytest.mark.parametrize("command", ["up", "destroy", "refresh"])
def test_nothing_is_done_without_yes_where_nobody_can_be_asked(project: Project, command: str) -> None:
    said = project.berth(command, "--stack", "local", exit_status=2).stderr
    assert "there is no terminal to ask at" in said
    assert "--yes" in said
    assert not (project.root / ".sandbox").exists()


def test_output_of_a_stack_that_is_not_up_says_so(project: Project) -> None:
    assert "nothing is deployed" in project.berth("output", "--stack", "local", exit_status=1).stderr


def test_env_is_shell_for_the_real_cli_and_gives_single_variables(project: Project) -> None:
    said = project.berth("env", "--stack", "local").stdout
    assert all(line.startswith("export ") for line in said.splitlines())
    values = subprocess.run(
        [
            "sh",
            "-c",
            f'{said}\nprintf "%s\\n" "$PULUMI_BACKEND_URL" "$RUNPOD_API_KEY"; command -v pulumi-resource-aws',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    key = project.berth("env", "--stack", "local", "RUNPOD_API_KEY").stdout.strip()
    assert values == [
        f"file://{project.root}/.sandbox/state",
        key,
        f"{project.root}/sandbox/plugins/bin/pulumi-resource-aws",
    ]
    assert "no variable 'NOPE'" in project.berth("env", "--stack", "local", "NOPE", exit_status=2).stderr
    assert "only the stack local" in project.berth("env", "--stack", "dev", exit_status=2).stderr


def _calls(project: Project) -> list[str]:
    path = project.root / "calls"
    return [line.removeprefix(f"{project.root} ") for line in path.read_text().splitlines()]


def _outputs(server: Server) -> dict[str, object]:
    return {
        "targets": ["eks", "runpod"],
        "model": "served",
        "image": "111122223333.dkr.ecr.us-east-1.amazonaws.com/berth@sha256:" + "0" * 64,
        "endpoints": {
            "eks": {"url": f"{server.url}/v1", "health": f"{server.url}/health"},
            "runpod": {"url": f"{server.url}/v1", "health": f"{server.url}/ping", "id": "ep1"},
        },
        "api_key": "right-key",
    }


def test_other_stacks_are_the_pulumi_cli_in_the_projects_folder(project: Project, server: Server) -> None:
    variables = project.pulumi(_outputs(server)) | {"RUNPOD_API_KEY": "right-key"}
    project.berth("destroy", "--stack", "dev", "--yes", variables=variables)
    project.berth("refresh", "--stack", "dev", "--yes", "--json", variables=variables)
    said = project.berth("up", "--stack", "dev", "--yes", "--no-smoke", variables=variables).stdout
    assert _calls(project) == [
        "stack export --stack dev",
        "destroy --stack dev --yes",
        "stack export --stack dev",
        "refresh --stack dev --yes --json",
        "up --stack dev --yes",
        "stack export --stack dev",
        "stack output --stack dev --json",
        "stack output --stack dev --json --show-secrets",
    ]
    assert f"curl {server.url}/v1/chat/completions" in said
    assert 'printf "Authorization: Bearer %s" "$(./berth output --stack dev api_key --show-secrets)"' in said
    assert 'printf "Authorization: Bearer %s" "$RUNPOD_API_KEY"' in said
    assert "right-key" not in said


def test_a_failed_run_of_the_cli_is_exit_status_1(project: Project, server: Server) -> None:
    done = project.berth(
        "preview", "--stack", "dev", exit_status=1, variables=project.pulumi(_outputs(server))
    )
    assert "Traceback" not in done.stderr


def test_ctrl_c_waits_for_the_clis_own_end_and_is_exit_status_130(project: Project) -> None:
    variables = project.program(
        "pulumi",
        '[ "$1" = version ] && echo v3.272.0 && exit 0\n[ "$1" = up ] || exit 1\n'
        f'trap "echo cleaned up; exit 1" INT\ntouch "{project.root}/running"\nwhile :; do sleep 0.05; done',
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "up", "--stack", "dev", "--yes", "--no-smoke"],
        cwd=project.root,
        env={**os.environ, **variables, "PYTHONPATH": str(project.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (project.root / "running").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "cleaned up" in out
    assert "interrupted" in err
    assert "Traceback" not in err


def test_without_a_pulumi_cli_the_message_says_how_to_get_it(project: Project) -> None:
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(project.root)}
    said = project.berth("preview", "--stack", "dev", exit_status=1, variables=variables).stderr
    assert "the Pulumi CLI, which is not on PATH" in said
    assert "https://www.pulumi.com/docs/iac/download-install/" in said


def test_a_pulumi_cli_that_is_too_old_is_refused(project: Project) -> None:
    variables = project.pulumi({}, version="v3.100.0")
    said = project.berth("preview", "--stack", "dev", exit_status=1, variables=variables).stderr
    assert "is 3.100.0; this project needs 3.260.0 or newer" in said
    assert not (project.root / "calls").exists()


def test_output_gives_all_one_or_json(project: Project, server: Server) -> None:
    variables = project.pulumi(_outputs(server))
    assert project.berth("output", "--stack", "dev", "model", variables=variables).stdout == "served\n"
    everything = project.berth("output", "--stack", "dev", "--json", variables=variables).stdout
    assert json.loads(everything)["endpoints"]["runpod"]["id"] == "ep1"
    one = project.berth("output", "--stack", "dev", "endpoints", "--json", variables=variables).stdout
    assert set(json.loads(one)) == {"eks", "runpod"}
    assert "image" in project.berth("output", "--stack", "dev", variables=variables).stdout
    said = project.berth("output", "--stack", "dev", "nope", exit_status=2, variables=variables).stderr
    assert "no output 'nope'; it has: api_key, endpoints, image" in said


def _runpod(server: Server) -> dict[str, str]:
    """Return the variables of a RunPod that has no workers now."""
    return {"RUNPOD_API_KEY": "right-key", "RUNPOD_REST_V2_API_URL": server.url}


def test_smoke_says_yes_to_a_stack_whose_endpoints_do_their_job(project: Project, server: Server) -> None:
    variables = project.pulumi(_outputs(server)) | _runpod(server)
    report = json.loads(project.berth("smoke", "--stack", "dev", "--json", variables=variables).stdout)
    assert report["ok"]
    assert [endpoint["platform"] for endpoint in report["endpoints"]] == ["eks", "runpod"]
    table = project.berth("smoke", "--stack", "dev", variables=variables).stdout
    assert "streamed answer" in table
    assert "tokens/s" in table


def test_smoke_says_no_with_the_reason(project: Project, server: Server) -> None:
    server.stream = []
    variables = project.pulumi(_outputs(server)) | _runpod(server)
    done = project.berth("smoke", "--stack", "dev", exit_status=1, variables=variables)
    assert "eks: streamed answer: the stream ended without [DONE]" in done.stderr
    report = json.loads(
        project.berth("smoke", "--stack", "dev", "--json", exit_status=1, variables=variables).stdout
    )
    assert not report["ok"]


def test_smoke_without_the_runpod_key_says_which_variable_is_missing(
    project: Project, server: Server
) -> None:
    variables = project.pulumi(_outputs(server)) | {"RUNPOD_API_KEY": ""}
    assert (
        "RUNPOD_API_KEY is not set"
        in project.berth("smoke", "--stack", "dev", exit_status=1, variables=variables).stderr
    )
