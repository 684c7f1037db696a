from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.sandbox_aws.support import Sandbox

OCI = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def registry(sandbox: Sandbox) -> httpx.Client:
    data = sandbox.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert data["proxyEndpoint"] == sandbox.endpoint
    return httpx.Client(base_url=data["proxyEndpoint"], auth=(user, password))


def push_blob(registry: httpx.Client, name: str, data: bytes) -> dict[str, Any]:
    start = registry.post(f"/v2/{name}/blobs/uploads/")
    assert start.status_code == 202, start.text
    half = len(data) // 2
    part = registry.patch(start.headers["location"], content=data[:half])
    assert part.headers["range"] == f"0-{half - 1}"
    done = registry.put(
        part.headers["location"], params={"digest": digest_of(data)}, content=iter([data[half:]])
    )
    assert done.status_code == 201, done.text
    return {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}


LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def push_image(
    registry: httpx.Client,
    name: str,
    reference: str,
    layer: bytes,
    config: bytes = b'{"architecture": "amd64"}',
) -> httpx.Response:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": push_blob(registry, name, config),
        "layers": [{**push_blob(registry, name, layer), "mediaType": LAYER}],
    }
    body = json.dumps(manifest)
    return registry.put(f"/v2/{name}/manifests/{reference}", content=body, headers={"Content-Type": OCI})


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["errors"][0]["code"]


def test_push_and_pull(sandbox: Sandbox, registry: httpx.Client) -> None:
    ecr = sandbox.client("ecr")
    repository = ecr.create_repository(repositoryName="team/model")["repository"]
    assert repository["repositoryUri"] == "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/model"
    pushed = push_image(registry, "team/model", "v1", b"layer one" * 1000)
    assert pushed.status_code == 201, pushed.text
    digest = pushed.headers["docker-content-digest"]
    by_tag = registry.get("/v2/team/model/manifests/v1")
    assert by_tag.headers["content-type"] == OCI
    assert digest_of(by_tag.content) == digest
    layer = by_tag.json()["layers"][0]["digest"]
    assert registry.get(f"/v2/team/model/blobs/{layer}").content == b"layer one" * 1000
    head = registry.head(f"/v2/team/model/blobs/{layer}")
    assert (head.status_code, head.headers["content-length"]) == (200, "9000")
    assert registry.get("/v2/team/model/tags/list").json() == {"name": "team/model", "tags": ["v1"]}
    image = ecr.describe_images(repositoryName="team/model")["imageDetails"][0]
    assert (image["imageDigest"], image["imageTags"]) == (digest, ["v1"])
    got = ecr.batch_get_image(repositoryName="team/model", imageIds=[{"imageDigest": digest}])["images"][0]
    assert got["imageManifest"] == by_tag.text
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName="team/model")
    ecr.batch_delete_image(repositoryName="team/model", imageIds=[{"imageDigest": digest}])
    assert error_of(registry.get("/v2/team/model/manifests/v1")) == (404, "MANIFEST_UNKNOWN")
    ecr.delete_repository(repositoryName="team/model")
    assert error_of(registry.get(f"/v2/team/model/blobs/{layer}")) == (404, "NAME_UNKNOWN")


def test_moved_tag_leaves_the_old_image_untagged(sandbox: Sandbox, registry: httpx.Client) -> None:
    ecr = sandbox.client("ecr")
    ecr.create_repository(repositoryName="moving")
    first = push_image(registry, "moving", "latest", b"one").headers["docker-content-digest"]
    second = push_image(registry, "moving", "latest", b"two").headers["docker-content-digest"]
    images = ecr.describe_images(repositoryName="moving")["imageDetails"]
    assert {each["imageDigest"]: each.get("imageTags", []) for each in images} == {
        first: [],
        second: ["latest"],
    }
    ecr.delete_repository(repositoryName="moving", force=True)


def test_immutable_tag_stays(sandbox: Sandbox, registry: httpx.Client) -> None:
    sandbox.client("ecr").create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    assert push_image(registry, "fixed", "v1", b"one").status_code == 201
    assert push_image(registry, "fixed", "v1", b"one").status_code == 201
    assert error_of(push_image(registry, "fixed", "v1", b"two")) == (400, "TAG_INVALID")


def test_the_registry_says_no_in_its_own_words(sandbox: Sandbox, registry: httpx.Client) -> None:
    sandbox.client("ecr").create_repository(repositoryName="strict")
    assert error_of(registry.post("/v2/none/blobs/uploads/")) == (404, "NAME_UNKNOWN")
    start = registry.post("/v2/strict/blobs/uploads/").headers["location"]
    wrong = registry.put(start, params={"digest": digest_of(b"other")}, content=b"this")
    assert error_of(wrong) == (400, "DIGEST_INVALID")
    unknown = {"schemaVersion": 2, "mediaType": OCI, "config": {"digest": digest_of(b"no")}, "layers": []}
    answer = registry.put("/v2/strict/manifests/v1", json=unknown)
    assert error_of(answer) == (400, "MANIFEST_BLOB_UNKNOWN")
    wrong_digest = registry.put(f"/v2/strict/manifests/{digest_of(b'x')}", json=unknown)
    assert error_of(wrong_digest) == (400, "DIGEST_INVALID")
    assert error_of(registry.delete(f"/v2/strict/manifests/{digest_of(b'x')}")) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("auth", [None, ("AWS", "nonsense"), ("someone", "else")])
def test_strangers_are_turned_away(sandbox: Sandbox, auth: tuple[str, str] | None) -> None:
    answer = httpx.get(f"{sandbox.endpoint}/v2/", auth=auth)
    assert error_of(answer) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_repository_policy(sandbox: Sandbox) -> None:
    ecr = sandbox.client("ecr")
    ecr.create_repository(repositoryName="shared")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            }
        ],
    }
    ecr.set_repository_policy(repositoryName="shared", policyText=json.dumps(policy))
    assert json.loads(ecr.get_repository_policy(repositoryName="shared")["policyText"]) == policy
