"""Image and policy lookups against ECR's API, as moto has it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sandbox.runpod.problems import Problem
from sandbox.runpod.registry import EcrRegistry, Login, parse_arn, require_access, require_image
from tests.runpod.conftest import POLICY, REPOSITORY, REPOSITORY_ARN
from tests.sandbox_aws.support import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DELEGATION = {"awsUser": "123456789012", "awsRegion": "us-east-1", "repository": "berth/vllm"}
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "c" * 64},
        "layers": [],
    }
)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    boto3.client("ecr", region_name="us-east-1", endpoint_url=f"http://{host}:{port}").delete_repository(
        repositoryName="berth/vllm", force=True
    )
    server.stop()


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    (tmp_path / "state").mkdir()
    running = Sandbox(tmp_path / "state").start()
    yield running
    running.stop()


@pytest.fixture
def ecr(url: str) -> Any:
    client = boto3.client("ecr", region_name="us-east-1", endpoint_url=url)
    client.create_repository(repositoryName="berth/vllm")
    return client


def test_the_policy_decides_on_access(url: str, ecr: Any) -> None:
    registry = EcrRegistry(url)
    repository, tag = parse_arn(REPOSITORY_ARN)
    assert tag == ""
    with pytest.raises(Problem, match="has no policy"):
        require_access(registry, repository)
    too_little = json.loads(json.dumps(POLICY).replace("ecr:BatchGetImage", "ecr:DescribeImages"))
    ecr.set_repository_policy(repositoryName="berth/vllm", policyText=json.dumps(too_little))
    with pytest.raises(Problem, match="does not allow"):
        require_access(registry, repository)
    ecr.set_repository_policy(repositoryName="berth/vllm", policyText=json.dumps(POLICY))
    require_access(registry, repository)


def test_an_image_is_found_by_tag_and_by_digest(url: str, ecr: Any) -> None:
    registry = EcrRegistry(url)
    with pytest.raises(Problem, match="manifest unknown"):
        require_image(registry, [DELEGATION], f"{REPOSITORY}:v1")
    image = ecr.put_image(repositoryName="berth/vllm", imageManifest=MANIFEST, imageTag="v1")["image"]
    digest = image["imageId"]["imageDigest"]
    for version in (":v1", f"@{digest}", f":v1@{digest}"):
        require_image(registry, [DELEGATION], REPOSITORY + version)
    with pytest.raises(Problem, match="no delegation"):
        require_image(registry, [], f"{REPOSITORY}:v1")
    with pytest.raises(Problem, match="no delegation"):
        require_image(registry, [DELEGATION], f"{REPOSITORY.replace('us-east-1', 'eu-west-1')}:v1")


def test_a_login_is_tried_at_the_registry_itself(own_sandbox: Sandbox) -> None:
    ecr = own_sandbox.client("ecr")
    ecr.create_repository(repositoryName="berth/vllm")
    image = ecr.put_image(repositoryName="berth/vllm", imageManifest=MANIFEST, imageTag="v1")["image"]
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    username, _, password = base64.b64decode(token).decode().partition(":")
    registry = EcrRegistry(own_sandbox.endpoint)
    for version in (":v1", f"@{image['imageId']['imageDigest']}"):
        require_image(registry, [], REPOSITORY + version, Login(username, password))
    with pytest.raises(Problem, match="manifest unknown"):
        require_image(registry, [], f"{REPOSITORY}:v2", Login(username, password))
    for wrong in (Login(username, "9999999999.forged"), Login("somebody", password)):
        # A delegation does not make up for a credential that is wrong.
        with pytest.raises(Problem, match="does not take the registry credential"):
            require_image(registry, [DELEGATION], f"{REPOSITORY}:v1", wrong)
    assert password not in repr(Login(username, password))


def test_a_registry_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for login in (None, Login("AWS", "token")):
        with pytest.raises(Problem, match="cannot be reached"):
            require_image(EcrRegistry("http://127.0.0.1:1"), [DELEGATION], f"{REPOSITORY}:v1", login)
