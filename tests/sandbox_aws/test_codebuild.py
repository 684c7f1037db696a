from __future__ import annotations

import io
import json
import textwrap
import zipfile
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.sandbox_aws.support import Sandbox, make_role, wait_for


def bundle(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


@pytest.fixture(scope="module")
def role(sandbox: Sandbox) -> str:
    sandbox.client("s3").create_bucket(Bucket="sources")
    return make_role(sandbox, "builder", "codebuild.amazonaws.com")


def make_project(
    sandbox: Sandbox, role: str, name: str, buildspec: str, files: dict[str, str]
) -> dict[str, Any]:
    sandbox.client("s3").put_object(Bucket="sources", Key=f"{name}.zip", Body=bundle(files))
    project: dict[str, Any] = sandbox.client("codebuild").create_project(
        name=name,
        serviceRole=role,
        source={
            "type": "S3",
            "location": f"sources/{name}.zip",
            "buildspec": textwrap.dedent(buildspec),
        },
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "privilegedMode": True,
            "environmentVariables": [{"name": "IMAGE_TAG", "value": "abc"}],
        },
        logsConfig={"cloudWatchLogs": {"status": "ENABLED", "groupName": f"/berth/{name}"}},
    )["project"]
    return project


def finished(sandbox: Sandbox, build_id: str) -> dict[str, Any]:
    codebuild = sandbox.client("codebuild")

    def done() -> dict[str, Any] | None:
        build = codebuild.batch_get_builds(ids=[build_id])["builds"][0]
        return build if build["buildComplete"] else None

    build: dict[str, Any] = wait_for(done)
    return build


def log_of(sandbox: Sandbox, build: dict[str, Any]) -> list[str]:
    events = sandbox.client("logs").get_log_events(
        logGroupName=build["logs"]["groupName"], logStreamName=build["logs"]["streamName"], startFromHead=True
    )["events"]
    return [event["message"] for event in events]


def test_a_build_runs_and_gives_its_variables_out(sandbox: Sandbox, role: str) -> None:
    project = make_project(
        sandbox,
        role,
        "good",
        """\
        version: 0.2
        env:
          variables:
            GREETING: hello
          exported-variables: [DIGEST, WHO]
        phases:
          pre_build:
            commands:
              - WHO=$(aws sts get-caller-identity --query Arn --output text)
              - aws ecr get-login-password > password
          build:
            commands:
              - echo "$GREETING $(cat Dockerfile) $IMAGE_TAG"
              - cd sub
              - DIGEST="sha256:$(cat file)"
          post_build:
            commands:
              - test "$CODEBUILD_BUILD_SUCCEEDING" = 1
              - pwd
              - command -v docker
        """,
        {"Dockerfile": "FROM scratch", "sub/file": "0123"},
    )
    assert project["environment"]["environmentVariables"] == [
        {"name": "IMAGE_TAG", "value": "abc", "type": "PLAINTEXT"}
    ]
    codebuild = sandbox.client("codebuild")
    assert codebuild.batch_get_projects(names=["good", "no"])["projectsNotFound"] == ["no"]
    started = codebuild.start_build(
        projectName="good", environmentVariablesOverride=[{"name": "IMAGE_TAG", "value": "def"}]
    )["build"]
    assert started["buildStatus"] == "IN_PROGRESS"
    build = finished(sandbox, started["id"])
    log = log_of(sandbox, build)
    assert build["buildStatus"] == "SUCCEEDED", log
    exported = {each["name"]: each["value"] for each in build["exportedEnvironmentVariables"]}
    assert exported["DIGEST"] == "sha256:0123"
    assert exported["WHO"].startswith("arn:aws:sts::123456789012:assumed-role/builder/AWSCodeBuild-")
    assert "hello FROM scratch def" in log
    assert build["logs"]["groupName"] == "/berth/good"
    kinds = [phase["phaseType"] for phase in build["phases"]]
    assert kinds[-4:] == ["PRE_BUILD", "BUILD", "POST_BUILD", "COMPLETED"]
    assert any(line.endswith("/builds/bin/docker") for line in log)
    assert not list((sandbox.directory / "builds").glob("good-*"))


@pytest.mark.parametrize(("command", "status"), [("sh -c 'exit 7'", 7), ("exit 9", 9)])
def test_a_failed_command_is_named(sandbox: Sandbox, role: str, command: str, status: int) -> None:
    name = f"bad{status}"
    buildspec = f"""\
        version: 0.2
        phases:
          build:
            commands:
              - echo before
              - {command}
              - echo never
        """
    make_project(sandbox, role, name, buildspec, {"a": ""})
    build = finished(sandbox, sandbox.client("codebuild").start_build(projectName=name)["build"]["id"])
    assert build["buildStatus"] == "FAILED"
    phase = next(phase for phase in build["phases"] if phase["phaseType"] == "BUILD")
    assert phase["phaseStatus"] == "FAILED"
    assert phase["contexts"] == [
        {
            "statusCode": "COMMAND_EXECUTION_ERROR",
            "message": f"Error while executing command: {command}. Reason: exit status {status}",
        }
    ]
    log = log_of(sandbox, build)
    assert "before" in log
    assert "never" not in log


def test_post_build_runs_after_a_failed_build_but_not_after_a_failed_pre_build(
    sandbox: Sandbox, role: str
) -> None:
    for failing, expected in (("build", True), ("pre_build", False)):
        phases = {failing: {"commands": ["false"]}, "post_build": {"commands": ["echo after"]}}
        buildspec = json.dumps({"version": 0.2, "phases": phases}, indent=1)
        name = f"fails-{failing}"
        make_project(sandbox, role, name, buildspec, {"a": ""})
        build = finished(sandbox, sandbox.client("codebuild").start_build(projectName=name)["build"]["id"])
        assert build["buildStatus"] == "FAILED"
        assert ("after" in log_of(sandbox, build)) is expected


def test_bad_sources_fail_the_download(sandbox: Sandbox, role: str) -> None:
    codebuild = sandbox.client("codebuild")
    make_project(sandbox, role, "source", "version: 0.2\nphases: {build: {commands: [true]}}\n", {"a": ""})
    for changes, words in (
        ({"sourceLocationOverride": "sources/none.zip"}, "NoSuchKey"),
        ({"sourceLocationOverride": "none/none.zip"}, "NoSuchBucket"),
        ({"buildspecOverride": "none.yml"}, "stat none.yml"),
        ({"buildspecOverride": "version: 0.2\nphasen: {}\n"}, "phasen"),
    ):
        build = finished(sandbox, codebuild.start_build(projectName="source", **changes)["build"]["id"])
        assert build["buildStatus"] == "FAILED"
        phase = build["phases"][-2]
        assert phase["phaseType"] == "DOWNLOAD_SOURCE"
        assert words in phase["contexts"][0]["message"]


def test_stop_build_kills_it(sandbox: Sandbox, role: str) -> None:
    codebuild = sandbox.client("codebuild")
    spec = "version: 0.2\nphases: {build: {commands: [echo $$ > pid && sleep 1000]}}\n"
    make_project(sandbox, role, "slow", spec, {"a": ""})
    build_id = codebuild.start_build(projectName="slow")["build"]["id"]
    pid_file = sandbox.directory / "builds" / build_id.replace(":", "-") / "src" / "pid"
    pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    codebuild.stop_build(id=build_id)
    assert finished(sandbox, build_id)["buildStatus"] == "STOPPED"
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"serviceRole": "arn:aws:iam::123456789012:role/none"}, "InvalidInputException", "sts:AssumeRole"),
        ({"source": {"type": "S3", "location": "x"}}, "InvalidInputException", "location"),
        ({"source": {"type": "SVN"}}, "InvalidInputException", "enum value set"),
        ({"name": "a!"}, "InvalidInputException", "Invalid project name"),
    ],
)
def test_bad_project_is_refused(
    sandbox: Sandbox, role: str, changes: dict[str, Any], code: str, words: str
) -> None:
    good = {
        "name": "other",
        "serviceRole": role,
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
    }
    with pytest.raises(ClientError, match=words) as caught:
        sandbox.client("codebuild").create_project(**{**good, **changes})
    assert caught.value.response["Error"]["Code"] == code


def test_a_build_ends_when_the_sandbox_is_killed(own_sandbox: Sandbox) -> None:
    codebuild = own_sandbox.client("codebuild")
    own_sandbox.client("s3").create_bucket(Bucket="sources")
    role = make_role(own_sandbox, "builder", "codebuild.amazonaws.com")
    # Both the shell and what it started.
    spec = (
        "version: 0.2\nphases: {build: {commands: ['sleep 1000 & echo $! > child; echo $$ > pid; wait']}}\n"
    )
    make_project(own_sandbox, role, "slow", spec, {"a": ""})
    build_id = codebuild.start_build(projectName="slow")["build"]["id"]
    pid_file = own_sandbox.directory / "builds" / build_id.replace(":", "-") / "src" / "pid"
    pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    child = int(pid_file.with_name("child").read_text())
    own_sandbox.kill()
    wait_for(lambda: not psutil.pid_exists(pid) and not psutil.pid_exists(child))
    own_sandbox.start()
    build = codebuild.batch_get_builds(ids=[build_id])["builds"][0]
    assert build["buildStatus"] == "FAULT"
    assert "stopped during the build" in build["phases"][-2]["contexts"][0]["message"]
