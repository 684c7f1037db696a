"""ECR's scan of an image by digest, and whether the stack's policy lets it pass."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from infra.settings.scan import ScanSettings

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED")
"""ECR's, the worst first; UNDEFINED is one that nobody has rated yet."""

ECR_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<repository>[^@:]+)"
    r"@(?P<digest>sha256:[0-9a-f]{64})"
)
_POLL_SECONDS = 3.0
_FINISHED = ("COMPLETE", "ACTIVE")  # of a single scan, and of Inspector's, which goes on
_GOING_ON = ("IN_PROGRESS", "PENDING")


@dataclass(frozen=True)
class Finding:
    """A vulnerability that the scan found.

    Args:
        id: such as CVE-2027-1234.
        severity: one of `SEVERITIES`.
        package, version: what has it, as the image has it; empty where the scan does not say.
        uri: where it is described.
    """

    id: str
    severity: str
    package: str
    version: str
    uri: str


@dataclass(frozen=True)
class Verdict:
    """What a policy says of findings.

    Args:
        failing: the findings that fail the scan.
        allowed: those that would, but for an allowance.
        expired: ids of allowances whose last day is over, although the scan still finds them.
    """

    failing: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    expired: tuple[str, ...]


def findings(image: str, environment: Mapping[str, str], *, timeout_seconds: float) -> list[Finding]:
    """Return what ECR's scan found, the worst first.

    Args:
        image: `repository@digest`, in ECR.
        environment: the variables under which AWS's tools work on the stack.
        timeout_seconds: how long to wait for a scan that is not finished.

    Raises:
        OpsError: the image is not in ECR, was not or cannot be scanned, or AWS refuses to tell.
    """
    place = ECR_IMAGE.fullmatch(image)
    if place is None:
        raise OpsError(f"{image} is not in ECR, whose scans this command shows")
    deadline = time.monotonic() + timeout_seconds
    try:
        client = ecr_client(environment, place["region"])
        while True:
            pages = _pages(client, place)
            status = pages[0]["imageScanStatus"]
            if status["status"] not in _GOING_ON:
                break
            if time.monotonic() >= deadline:
                raise OpsError(f"the scan of {image} is not finished: ECR says {status['status']}")
            time.sleep(_POLL_SECONDS)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        raise OpsError(f"ECR tells nothing of {image}: {code}: {message}") from error
    except BotoCoreError as error:
        raise OpsError(f"ECR cannot be asked about {image}: {error}") from error
    if status["status"] not in _FINISHED:
        why = status.get("description") or "it gives no reason"
        raise OpsError(f"ECR has no scan of {image}: {status['status']}: {why}")
    found = [finding for page in pages for finding in _of_page(page["imageScanFindings"])]
    return sorted(found, key=lambda each: (SEVERITIES.index(each.severity), each.id, each.package))


def ecr_client(environment: Mapping[str, str], region: str) -> Any:
    """Return boto3's client of ECR.

    Args:
        environment: the variables under which AWS's tools work on the stack.
        region: whose ECR.
    """
    import boto3  # noqa: PLC0415  # slow to import, and no other command needs it

    session = boto3.Session(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environment.get("AWS_SESSION_TOKEN"),
        region_name=region,
    )
    return session.client("ecr", endpoint_url=environment.get("AWS_ENDPOINT_URL"))


def _pages(client: Any, place: re.Match[str]) -> list[dict[str, Any]]:
    asked = {"repositoryName": place["repository"], "imageId": {"imageDigest": place["digest"]}}
    pages = client.get_paginator("describe_image_scan_findings").paginate(
        registryId=place["account"], **asked
    )
    return list(pages)


def _of_page(page: Mapping[str, Any]) -> list[Finding]:
    """Return a page's findings, whether ECR's own scanner or Inspector made them."""
    found = []
    for each in page.get("findings", []):
        told = {item["key"]: item.get("value", "") for item in each.get("attributes", [])}
        package, version = told.get("package_name", ""), told.get("package_version", "")
        found.append(Finding(each["name"], _known(each["severity"]), package, version, each.get("uri", "")))
    for each in page.get("enhancedFindings", []):
        details = each.get("packageVulnerabilityDetails", {})
        severity = _known(each["severity"])
        name = details.get("vulnerabilityId") or each.get("title", "")
        for package in details.get("vulnerablePackages") or [{}]:
            found.append(  # noqa: PERF401  # two loops read better than a comprehension with both
                Finding(
                    name,
                    severity,
                    package.get("name", ""),
                    package.get("version", ""),
                    details.get("sourceUrl", ""),
                )
            )
    return found


def _known(severity: str) -> str:
    return severity if severity in SEVERITIES else "UNDEFINED"


def judge(found: Sequence[Finding], policy: ScanSettings, today: dt.date) -> Verdict:
    """Apply a stack's policy to what a scan found.

    Args:
        found: the findings.
        policy: the stack's `image.scan`.
        today: the day on which allowances must not be over.
    """
    worst = SEVERITIES[: SEVERITIES.index(policy.fail_on.upper()) + 1]
    severe = [finding for finding in found if finding.severity in worst]
    over = {each.id for each in policy.allowed if each.until < today.isoformat()}
    current = {each.id for each in policy.allowed} - over
    return Verdict(
        tuple(finding for finding in severe if finding.id not in current),
        tuple(finding for finding in severe if finding.id in current),
        tuple(sorted(over & {finding.id for finding in severe})),
    )


def as_document(found: Sequence[Finding], verdict: Verdict, policy: ScanSettings) -> dict[str, Any]:
    """Return the findings and the verdict for programs."""
    counts = {name: sum(each.severity == name for each in found) for name in SEVERITIES}
    return {
        "passed": not verdict.failing,
        "fail_on": policy.fail_on,
        "counts": {name.lower(): count for name, count in counts.items()},
        "failing": [asdict(each) for each in verdict.failing],
        "allowed": [asdict(each) for each in verdict.allowed],
        "expired": list(verdict.expired),
        "findings": [asdict(each) for each in found],
    }
