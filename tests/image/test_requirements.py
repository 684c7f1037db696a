"""The image's packages: pinned with hashes, the versions that tests run with, and nothing of a host."""

from __future__ import annotations

import re

import pytest

from tests.containers.conftest import PROJECT

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def test_the_door_is_tested_with_what_the_image_has() -> None:
    image = dict(PIN.findall((PROJECT / "image/requirements.lock").read_text()))
    project = dict(PIN.findall((PROJECT / "requirements.lock").read_text()))
    assert {"runpod", "aiohttp", "uvloop"} <= image.keys()
    assert image == {name: project[name] for name in image}


def test_every_package_has_a_hash_and_none_a_host() -> None:
    text = (PROJECT / "image/requirements.lock").read_text()
    packages = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


@pytest.mark.parametrize("name", ["aiohttp", "runpod", "uvloop"])
def test_what_the_door_imports_is_asked_for(name: str) -> None:
    lines = (PROJECT / "image/requirements.in").read_text().splitlines()
    assert [line for line in lines if re.fullmatch(rf"{name}(==.*)?", line)]


def test_the_dockerfile_checks_the_hashes_before_it_brings_weights() -> None:
    text = (PROJECT / "image/Dockerfile").read_text()
    assert text.index("--require-hashes") < text.index('ARG MODEL=""')


def test_every_program_of_the_folder_is_in_the_image() -> None:
    from sandbox.builder import build

    lines: list[str] = []
    built = build(PROJECT / "image", PROJECT / "image/Dockerfile", report=lines.append)
    import io
    import json
    import tarfile

    found: set[str] = set()
    for layer in json.loads(built.manifest)["layers"]:
        with tarfile.open(fileobj=io.BytesIO(built.blobs[layer["digest"]])) as tar:
            found |= {member.name for member in tar if member.isfile()}
    programs = {path.relative_to(PROJECT / "image") for path in (PROJECT / "image").rglob("*.py")}
    assert {f"opt/berth/{path}" for path in programs} <= found
