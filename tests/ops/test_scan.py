"""`berth scan` against the sandbox's ECR, by the real client."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.sandbox_aws.support import KEY, SECRET, admin
from tests.sandbox_aws.test_registry import push_image
from tests.sandbox_aws.test_scans import logged_in, pushed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ops.conftest import Project
    from tests.sandbox_aws.support import Sandbox

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture(scope="module")
def place(sandbox: Sandbox) -> dict[str, str]:
    return pushed(sandbox, "berth-dev", scanned=True)


def _finding(number: int, severity: str) -> dict[str, Any]:
    package = [{"key": "package_name", "value": "openssl"}, {"key": "package_version", "value": "3.0.2"}]
    return {"name": f"CVE-2027-000{number}", "severity": severity, "attributes": package}


def _variables(project: Project, sandbox: Sandbox, image: str) -> dict[str, str]:
    """Return variables under which the stack `dev` is deployed with an image, and AWS is the sandbox."""
    return project.pulumi({"image": image}) | {
        "AWS_ENDPOINT_URL": sandbox.endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def _set_policy(project: Project, policy: dict[str, Any]) -> None:
    path = project.root / "stacks/Pulumi.dev.yaml"
    document = yaml.safe_load(path.read_text())
    document["config"].setdefault("berth:image", {})["scan"] = policy
    path.write_text(yaml.safe_dump(document))


@pytest.fixture
def variables(project: Project, sandbox: Sandbox, place: dict[str, str]) -> dict[str, str]:
    found = [_finding(1, "LOW"), _finding(2, "CRITICAL"), _finding(3, "HIGH"), _finding(4, "CRITICAL")]
    assert admin(sandbox, "PUT", "scans", {**place, "findings": found}).status_code == 200
    return _variables(project, sandbox, f"{HOST}/{place['repository']}@{place['digest']}")


def test_critical_findings_fail_and_are_shown_first(project: Project, variables: dict[str, str]) -> None:
    shown = project.berth("scan", "--stack", "dev", exit_status=1, variables=variables).stdout
    rows = [line.split() for line in shown.splitlines() if line.startswith("CVE-")]
    assert [row[0] for row in rows] == ["CVE-2027-0002", "CVE-2027-0004", "CVE-2027-0003", "CVE-2027-0001"]
    assert rows[0] == ["CVE-2027-0002", "critical", "openssl", "3.0.2", "fails"]
    assert rows[2] == ["CVE-2027-0003", "high", "openssl", "3.0.2"]
    assert "2 of 4 findings fail" in shown


def test_what_is_allowed_passes_until_its_day(project: Project, variables: dict[str, str]) -> None:
    allowed = [
        {"id": "CVE-2027-0002", "until": "2999-12-31", "reason": "not reachable"},
        {"id": "CVE-2027-0004", "until": "2999-12-31", "reason": "not reachable"},
    ]
    _set_policy(project, {"allowed": allowed})
    document = json.loads(project.berth("scan", "--stack", "dev", "--json", variables=variables).stdout)
    assert document["passed"] is True
    assert document["counts"]["critical"] == 2
    assert [each["id"] for each in document["allowed"]] == ["CVE-2027-0002", "CVE-2027-0004"]
    allowed[1]["until"] = "2020-01-01"
    _set_policy(project, {"fail_on": "high", "allowed": allowed})
    done = project.berth("scan", "--stack", "dev", "--json", exit_status=1, variables=variables)
    document = json.loads(done.stdout)
    assert [each["id"] for each in document["failing"]] == ["CVE-2027-0004", "CVE-2027-0003"]
    assert document["expired"] == ["CVE-2027-0004"]


def test_what_cannot_be_said_is_no_pass(
    project: Project, sandbox: Sandbox, place: dict[str, str], variables: dict[str, str]
) -> None:
    def words(*options: str) -> str:
        done = project.berth("scan", "--stack", "dev", *options, exit_status=1, variables=variables)
        assert not done.stdout
        return done.stderr

    admin(sandbox, "PUT", "scans", {**place, "status": "FAILED"})
    assert "UnsupportedImageError" in words()
    admin(sandbox, "PUT", "scans", {**place, "status": "IN_PROGRESS"})
    assert "is not finished: ECR says IN_PROGRESS" in words("--timeout", "0")
    variables |= _variables(project, sandbox, f"{HOST}/berth-dev@sha256:{'0' * 64}")
    assert "ImageNotFoundException" in words()
    variables |= _variables(project, sandbox, f"ghcr.io/someone/else@sha256:{'0' * 64}")
    assert "is not in ECR" in words()
    variables |= project.pulumi({})
    assert "it is not deployed" in words()


def _with_a_package(sandbox: Sandbox) -> str:
    """Push an image in which a Python package is installed, and return it by digest."""
    files = {
        "usr/lib/python3/dist-packages/attrs-25.1.0.dist-info/METADATA": b"Name: attrs\nVersion: 25.1.0\n",
        "usr/lib/python3/dist-packages/attrs-25.1.0.dist-info/RECORD": b"",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    layer = packed.getvalue()
    unpacked = f"sha256:{hashlib.sha256(gzip.decompress(layer)).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [unpacked]}}
    sandbox.client("ecr").create_repository(repositoryName="berth-sbom")
    with logged_in(sandbox) as client:
        digest = push_image(client, "berth-sbom", "v1", layer, json.dumps(config).encode()).headers[
            "docker-content-digest"
        ]
    return f"{HOST}/berth-sbom@{digest}"


def test_the_bill_of_materials_is_read_from_the_registry(
    project: Project, sandbox: Sandbox, tmp_path: Path
) -> None:
    variables = _variables(project, sandbox, _with_a_package(sandbox))
    path = tmp_path / "sbom.json"
    done = project.berth("scan", "--stack", "dev", "--sbom", str(path), exit_status=1, variables=variables)
    assert "Pulling" in done.stderr
    components = json.loads(path.read_text())["components"]
    assert ("attrs", "25.1.0") in {(each["name"], each.get("version")) for each in components}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"fail_on": "severe"}, ["image.scan.fail_on", "severe", "critical"]),
        (
            {"allowed": [{"id": "CVE-2027-0001", "until": "tomorrow", "reason": "x"}]},
            ["image.scan.allowed", "until", "tomorrow", "2027-01-31"],
        ),
        ({"allowed": [{"id": "CVE-2027-0001", "until": "2027-01-31"}]}, ["image.scan.allowed", "reason"]),
        (
            {"allowed": [{"id": "CVE-2027-0001", "until": "2027-01-31", "reason": "x"}] * 2},
            ["image.scan", "CVE-2027-0001 more than once"],
        ),
    ],
)
def test_a_wrong_policy_is_named(project: Project, policy: dict[str, Any], words: list[str]) -> None:
    _set_policy(project, policy)
    said = project.berth("scan", "--stack", "dev", exit_status=1).stderr
    assert "stacks/Pulumi.dev.yaml" in said
    for word in words:
        assert word in said
