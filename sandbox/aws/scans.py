"""ECR's scans of images: when one begins, what is said of it, and what a test has it find.

The sandbox has no database of vulnerabilities, and its images have no operating system in them: of an image
whose findings nobody gave, it says what ECR says of one that it cannot scan. `PUT /_sandbox/scans`, with the
deployer's secret access key in the header `x-sandbox-secret`, gives the result of an image's scan:

    {"repository": "berth-dev", "digest": "sha256:...", "status": "COMPLETE", "findings": [...]}

with findings as DescribeImageScanFindings shows them.
"""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from moto.core.responses import ActionResult
from moto.ecr.exceptions import (
    InvalidParameterException,
    LimitExceededException,
    ScanNotFoundException,
)
from moto.ecr.models import ECRBackend
from moto.ecr.responses import ECRResponse
from pydantic import BaseModel, ConfigDict

from sandbox.aws.faults import SECRET_HEADER
from sandbox.aws.guards import replace
from sandbox.aws.messages import HttpRequest, HttpResponse, json_response

if TYPE_CHECKING:
    from datetime import datetime

    from sandbox.aws.cloud import Cloud

# The words: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-troubleshooting.html
_UNSUPPORTED = "UnsupportedImageError: The operating system and/or package manager are not supported."
_DESCRIPTIONS = {"COMPLETE": "The scan was completed successfully.", "FAILED": _UNSUPPORTED}
_PAGE = 100
_LARGEST_PAGE = 1000


class Finding(BaseModel):
    """A vulnerability, as ECR shows it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    severity: Literal["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "UNDEFINED"]
    description: str = ""
    uri: str = ""
    attributes: list[dict[str, str]] = []


class Result(BaseModel):
    """What an image's scan is to have found."""

    model_config = ConfigDict(strict=True, extra="forbid")

    repository: str
    digest: str
    status: Literal["IN_PROGRESS", "COMPLETE", "FAILED"] = "COMPLETE"
    findings: list[Finding] = []


@dataclass
class _Scan:
    started: datetime
    status: str
    findings: list[dict[str, Any]] = field(default_factory=list)


class Scans:
    """The scans of an account's images.

    Args:
        cloud: the account.
        secret: what the route asks for in the header.
    """

    def __init__(self, cloud: Cloud, secret: str) -> None:
        self._cloud = cloud
        self._secret = secret
        self._scans: dict[tuple[str, str], _Scan] = {}
        cloud.on_event("ecr.scan_result", self._set)

        def start(backend: ECRBackend, **asked: Any) -> dict[str, Any]:
            return self._start(backend, **asked)

        def describe(response: Any) -> ActionResult:
            return self._describe(response)

        replace(ECRBackend, "start_image_scan", start)
        replace(ECRResponse, "describe_image_scan_findings", describe)

    def pushed(self, repository: Any, digest: str) -> None:
        """Scan an image that was pushed, where its repository wants that."""
        if repository.image_scanning_configuration.get("scanOnPush"):
            self._scans.setdefault((repository.name, digest), _Scan(self._cloud.now(), "FAILED"))

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer requests to `/_sandbox/scans`."""
        if not hmac.compare_digest((request.header(SECRET_HEADER) or "").encode(), self._secret.encode()):
            return json_response(401, {"message": "missing or wrong sandbox secret"})
        if request.method != "PUT":
            return json_response(405, {"message": "There is PUT only."})
        try:
            wanted = Result.model_validate_json(request.body)
        except pydantic.ValidationError as error:
            return json_response(422, {"message": str(error)})
        self._cloud.record("ecr.scan_result", **wanted.model_dump())
        return json_response(200, wanted.model_dump())

    def _set(self, repository: str, digest: str, status: str, findings: list[dict[str, Any]]) -> None:
        self._scans[repository, digest] = _Scan(self._cloud.now(), status, findings)

    def _start(
        self, backend: ECRBackend, registry_id: str, repository_name: str, image_id: dict[str, str]
    ) -> dict[str, Any]:
        repository = backend._get_repository(repository_name, registry_id)  # noqa: SLF001  # has no other way
        image = repository._get_image(image_id.get("imageTag"), image_id.get("imageDigest"))  # noqa: SLF001
        before = self._scans.get((repository_name, image.image_digest))
        now = self._cloud.now()
        if before is not None and (now - before.started).total_seconds() < 24 * 3600:
            raise LimitExceededException
        self._scans[repository_name, image.image_digest] = _Scan(now, "FAILED")
        return {
            "registryId": repository.registry_id,
            "repositoryName": repository_name,
            "imageId": {"imageDigest": image.image_digest, **image_id},
            "imageScanStatus": {"status": "IN_PROGRESS"},
        }

    def _describe(self, response: Any) -> ActionResult:
        asked = {
            name: response._get_param(name)  # noqa: SLF001  # moto's own way to read a request
            for name in ("registryId", "repositoryName", "imageId", "nextToken", "maxResults")
        }
        repository = response.ecr_backend._get_repository(asked["repositoryName"], asked["registryId"])  # noqa: SLF001
        image_id = asked["imageId"] or {}
        image = repository._get_image(image_id.get("imageTag"), image_id.get("imageDigest"))  # noqa: SLF001
        scan = self._scans.get((repository.name, image.image_digest))
        if scan is None:
            shown = ", ".join(
                f"{name}:'{image_id.get(name) or 'null'}'" for name in ("imageDigest", "imageTag")
            )
            raise ScanNotFoundException(
                image_id=f"{{{shown}}}", repository_name=repository.name, registry_id=repository.registry_id
            )
        answer: dict[str, Any] = {
            "registryId": repository.registry_id,
            "repositoryName": repository.name,
            "imageId": {"imageDigest": image.image_digest, **image_id},
            "imageScanStatus": {
                "status": scan.status,
                **({"description": _DESCRIPTIONS[scan.status]} if scan.status in _DESCRIPTIONS else {}),
            },
        }
        if scan.status == "COMPLETE":
            answer.update(_page(scan, asked["nextToken"], asked["maxResults"]))
        return ActionResult(answer)


def _page(scan: _Scan, token: str | None, size: int | None) -> dict[str, Any]:
    size = _PAGE if size is None else size
    if not 1 <= size <= _LARGEST_PAGE:
        raise InvalidParameterException(
            "Invalid parameter at 'maxResults' failed to satisfy constraint: "
            f"'Member must be between 1 and {_LARGEST_PAGE}'"
        )
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
    except ValueError as error:
        raise InvalidParameterException("Invalid parameter at 'nextToken': invalid token") from error
    end = start + size
    page: dict[str, Any] = {
        "imageScanFindings": {
            "imageScanCompletedAt": scan.started.timestamp(),
            "vulnerabilitySourceUpdatedAt": scan.started.timestamp(),
            "findings": scan.findings[start:end],
            "findingSeverityCounts": dict(Counter(each["severity"] for each in scan.findings)),
        }
    }
    if end < len(scan.findings):
        page["nextToken"] = base64.b64encode(str(end).encode()).decode()
    return page
