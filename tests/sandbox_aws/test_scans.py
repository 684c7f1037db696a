"""ECR's scans, asked by the real client."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.sandbox_aws.support import Sandbox, admin
from tests.sandbox_aws.test_registry import push_image


def logged_in(sandbox: Sandbox) -> httpx.Client:
    """Return a client of the sandbox's registry that is logged in."""
    data = sandbox.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return httpx.Client(base_url=sandbox.endpoint, auth=(user, password))


def pushed(sandbox: Sandbox, name: str, *, scanned: bool) -> dict[str, str]:
    sandbox.client("ecr").create_repository(
        repositoryName=name, imageScanningConfiguration={"scanOnPush": scanned}
    )
    with logged_in(sandbox) as registry:
        response = push_image(registry, name, "v1", hashlib.sha256(name.encode()).digest())
    assert response.status_code == 201
    return {"repository": name, "digest": response.headers["docker-content-digest"]}


def _finding(number: int, severity: str) -> dict[str, Any]:
    return {
        "name": f"CVE-2027-{number:04}",
        "severity": severity,
        "uri": "https://example.com/cve",
        "attributes": [{"key": "package_name", "value": "openssl"}, {"key": "package_version", "value": "3"}],
    }


def test_an_image_without_a_known_system_cannot_be_scanned(sandbox: Sandbox) -> None:
    place = pushed(sandbox, "scan/unknown", scanned=True)
    answer = sandbox.client("ecr").describe_image_scan_findings(
        repositoryName=place["repository"], imageId={"imageDigest": place["digest"]}
    )
    assert answer["imageScanStatus"]["status"] == "FAILED"
    assert answer["imageScanStatus"]["description"].startswith("UnsupportedImageError: ")
    assert "imageScanFindings" not in answer


def test_what_was_not_scanned_has_no_findings_and_is_scanned_once_a_day(sandbox: Sandbox) -> None:
    ecr = sandbox.client("ecr")
    place = pushed(sandbox, "scan/manual", scanned=False)
    asked = {"repositoryName": place["repository"], "imageId": {"imageTag": "v1"}}
    with pytest.raises(ClientError, match="Image scan does not exist") as caught:
        ecr.describe_image_scan_findings(**asked)
    assert caught.value.response["Error"]["Code"] == "ScanNotFoundException"
    started = ecr.start_image_scan(**asked)
    assert started["imageScanStatus"] == {"status": "IN_PROGRESS"}
    assert started["imageId"] == {"imageDigest": place["digest"], "imageTag": "v1"}
    assert ecr.describe_image_scan_findings(**asked)["imageScanStatus"]["status"] == "FAILED"
    with pytest.raises(ClientError, match="LimitExceededException"):
        ecr.start_image_scan(**asked)


def test_findings_come_in_pages(own_sandbox: Sandbox) -> None:
    ecr = own_sandbox.client("ecr")
    place = pushed(own_sandbox, "scan/pages", scanned=True)
    findings = [_finding(number, "LOW" if number % 2 else "HIGH") for number in range(250)]
    assert admin(own_sandbox, "PUT", "scans", {**place, "findings": findings}).status_code == 200
    asked = {"repositoryName": place["repository"], "imageId": {"imageDigest": place["digest"]}}
    first = ecr.describe_image_scan_findings(**asked)
    assert first["imageScanStatus"]["status"] == "COMPLETE"
    assert len(first["imageScanFindings"]["findings"]) == 100
    assert first["imageScanFindings"]["findingSeverityCounts"] == {"HIGH": 125, "LOW": 125}
    pages = ecr.get_paginator("describe_image_scan_findings").paginate(
        **asked, PaginationConfig={"PageSize": 60}
    )
    names = [each["name"] for page in pages for each in page["imageScanFindings"]["findings"]]
    assert names == [each["name"] for each in findings]
    for wrong in ({"maxResults": 1001}, {"nextToken": "?"}):
        with pytest.raises(ClientError, match="InvalidParameterException"):
            ecr.describe_image_scan_findings(**asked, **wrong)
    own_sandbox.kill()
    own_sandbox.start()
    kept = own_sandbox.client("ecr").describe_image_scan_findings(**asked)
    assert kept["imageScanFindings"]["findingSeverityCounts"] == {"HIGH": 125, "LOW": 125}


def test_images_that_are_not_there(sandbox: Sandbox) -> None:
    ecr = sandbox.client("ecr")
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        ecr.describe_image_scan_findings(repositoryName="scan/none", imageId={"imageTag": "v1"})
    place = pushed(sandbox, "scan/image", scanned=True)
    with pytest.raises(ClientError, match="ImageNotFoundException"):
        ecr.describe_image_scan_findings(
            repositoryName=place["repository"], imageId={"imageDigest": f"sha256:{'0' * 64}"}
        )
    assert admin(sandbox, "PUT", "scans", {**place, "status": "DONE"}).status_code == 422
    assert admin(sandbox, "PUT", "scans", dict(place), secret="wrong").status_code == 401
