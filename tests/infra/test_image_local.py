"""`image.builder: local`: the image is built by the command that the machine has, and pushed to ECR."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.codebuild import BuildError
from infra.image_local import LocalImageBuildProvider
from sandbox.docker import write_command
from tests.infra.graph import Secret, run
from tests.sandbox_aws.support import KEY, SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox_aws.support import Sandbox

TOKEN = "hf_not_a_real_token"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs that there is, but for what shell scripts need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _props(sandbox: Sandbox, name: str) -> dict[str, Any]:
    url = sandbox.client("ecr").create_repository(repositoryName=name)["repository"]["repositoryUri"]
    return {
        "repository": name,
        "url": url,
        "tag": "0123456789abcdef",
        "source_sha256": "a" * 64,
        "arguments": {"MODEL": "someone/tiny", "REVISION": "b" * 40},
        "hub_token": TOKEN,
        "region": "us-east-1",
        "endpoint": sandbox.endpoint,
        "timeout_minutes": 5,
    }


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_it_is_built_and_pushed_once(
    sandbox: Sandbox, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "BERTH_SANDBOX_REGISTRY": sandbox.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    docker = write_command(path)
    props = _props(sandbox, "local/image")
    made = LocalImageBuildProvider().create(props)
    (image,) = sandbox.client("ecr").describe_images(repositoryName="local/image")["imageDetails"]
    assert image["imageTags"] == [props["tag"]]
    assert made.outs is not None
    assert made.outs["digest"] == image["imageDigest"]
    assert TOKEN not in json.dumps(made.outs)
    config = json.loads((tmp_path / "docker/config.json").read_text())
    assert config["auths"] == {}, "the password of the registry is left on this machine"
    docker.unlink()
    assert LocalImageBuildProvider().create(props).outs == made.outs


@pytest.mark.parametrize("failing", ["build", "login", "push"])
def test_a_failed_step_is_named_with_its_log_and_without_secrets(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    _program(
        path,
        "docker",
        f'[ "$1" = {failing} ] || exit 0\n[ "$1" != login ] || /bin/cat\n'
        'for option in "$@"; do case "$option" in --secret=*) /bin/cat "${option##*src=}"; esac; done\n'
        f'echo "this is why: {TOKEN}"\nexit 7',
    )
    with pytest.raises(BuildError) as caught:
        LocalImageBuildProvider().create(_props(sandbox, f"local/{failing}"))
    said = str(caught.value)
    assert f"`docker {failing}` ended with status 7" in said
    assert "this is why: [secret]" in said
    assert TOKEN not in said
    password = sandbox.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert password not in said


def test_a_step_that_does_not_end_is_ended(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    _program(path, "buildah", "exec /bin/sleep 600")
    with pytest.raises(BuildError, match="`buildah build` did not end within"):
        LocalImageBuildProvider().create({**_props(sandbox, "local/slow"), "timeout_minutes": 1 / 60})


def test_no_builder_is_said_before_anything_is_made(path: Path) -> None:
    provider = LocalImageBuildProvider()
    (failure,) = provider.check({}, {"tag": "a"}).failures
    assert failure.reason == 'image.builder "local" needs docker or buildah on PATH, and neither is there'
    assert provider.check({"tag": "a"}, {"tag": "a"}).failures == []
    _program(path, "buildah", "exit 0")
    assert provider.check({}, {"tag": "a"}).failures == []


def test_the_program_makes_no_project_and_keeps_the_token_secret() -> None:
    model = {
        "name": "Qwen/Qwen2.5-0.5B-Instruct",
        "revision": "7ae557604adf67be50417f59c2c2f167def9a775",
        "max_model_len": 2048,
        "weights": "image",
    }
    graph = run("dev", preview=False, image={"builder": "local"}, model=model, hubToken=TOKEN)
    assert not [item for item in graph if item.type.startswith("aws:codebuild/")]
    (build,) = graph.of_type("pulumi-python:dynamic/image:Build")
    assert isinstance(build.inputs["hub_token"], Secret)
    assert build.inputs["arguments"] == {"MODEL": model["name"], "REVISION": model["revision"]}
    pods = graph.named("model-deployment").inputs["spec"]["template"]["spec"]["containers"]
    assert "@sha256:" in pods[0]["image"]
