"""Downloads the programs as their projects released them, checked against the checksums released with them.

The checksums come over TLS from where the programs come from: they guard against damage and against a mirror
in between, not against the project's own site.
"""

from __future__ import annotations

import hashlib
import platform
import re
import tarfile
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_KUBERNETES = "https://dl.k8s.io/release/{version}/bin/linux/{architecture}/{program}"
_ETCD = "https://github.com/etcd-io/etcd/releases/download/{version}"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Where the site cannot be reached this is lost before the build from source starts.
_TIMEOUT = httpx.Timeout(20, connect=4)


class NotAvailableError(RuntimeError):
    """The site cannot be reached from here or has no such release."""


class ReleaseError(RuntimeError):
    """What was downloaded is not what was released."""


def download(
    directory: Path, programs: Sequence[str], version: str, etcd_version: str, report: Callable[[str], None]
) -> None:
    """Download the programs that are not there yet.

    Args:
        directory: where to put them.
        programs: their names; "etcd" is etcd's own, all others are Kubernetes'.
        version: of Kubernetes.
        etcd_version: of etcd.
        report: called with a line of progress.

    Raises:
        NotAvailableError: there is nothing to download from here.
        ReleaseError: a checksum does not match.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise NotAvailableError(f"no release for {platform.machine()}")
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            for program in programs:
                target = directory / program
                if target.exists():
                    continue
                if program == "etcd":
                    _etcd(client, target, etcd_version, architecture, report)
                    continue
                url = _KUBERNETES.format(version=version, architecture=architecture, program=program)
                checksum = _checksum(client, f"{url}.sha256", "")
                _place(_fetch(client, url, target, checksum, report), target)
    except httpx.HTTPStatusError as error:
        raise NotAvailableError(f"{error.request.url.host} answers {error.response.status_code}") from error
    except httpx.TransportError as error:
        raise NotAvailableError(f"{error.request.url.host}: {str(error) or type(error).__name__}") from error


def _etcd(
    client: httpx.Client, target: Path, version: str, architecture: str, report: Callable[[str], None]
) -> None:
    base = _ETCD.format(version=version)
    name = f"etcd-{version}-linux-{architecture}"
    checksum = _checksum(client, f"{base}/SHA256SUMS", f"{name}.tar.gz")
    archive = _fetch(client, f"{base}/{name}.tar.gz", target.with_suffix(".tar.gz"), checksum, report)
    unpacked = target.with_suffix(".unpacked")
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{name}/etcd")
        if member is None:
            raise ReleaseError(f"{base}/{name}.tar.gz holds no etcd")
        unpacked.write_bytes(member.read())
    archive.unlink()
    _place(unpacked, target)


def _checksum(client: httpx.Client, url: str, name: str) -> str:
    """Return the SHA-256 in a checksum file: the only one, or that of the line that ends with `name`."""
    text = client.get(url).raise_for_status().text
    for line in text.splitlines():
        if line.strip().endswith(name) and (match := _SHA256.match(line.strip())):
            return match[0]
    raise NotAvailableError(f"{url} is no checksum file")


def _fetch(
    client: httpx.Client, url: str, target: Path, checksum: str, report: Callable[[str], None]
) -> Path:
    part = target.with_name(f"{target.name}.download")
    digest = hashlib.sha256()
    with client.stream("GET", url) as response, part.open("wb") as file:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0))
        report(f"downloading {url} ({size / 1e6:.0f} MB)")
        for block in response.iter_bytes(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != checksum:
        part.unlink()
        raise ReleaseError(f"{url} has the SHA-256 {digest.hexdigest()}, but {checksum} was released")
    return part


def _place(file: Path, target: Path) -> None:
    file.chmod(0o755)
    file.rename(target)
