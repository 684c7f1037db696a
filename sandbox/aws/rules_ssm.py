"""The public parameters in which AWS keeps the ids of the machine images that EKS's nodes start from.

https://docs.aws.amazon.com/eks/latest/userguide/retrieve-ami-id.html and retrieve-ami-id-bottlerocket.html
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.ssm.models import Parameter, ParameterDict

from sandbox.aws.eks.catalogue import VERSIONS, node_releases
from sandbox.aws.guards import before

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIXES = ("/aws/service/eks/optimized-ami", "/aws/service/bottlerocket")


@before(ParameterDict, "_check_loading_status")
def _has_images(parameters: Any, key: str) -> None:
    if not str(key or "").startswith(_PREFIXES) or getattr(parameters, "sandbox_images", False):
        return
    parameters.sandbox_images = True
    for name, image in _images():
        dict.setdefault(parameters, name, []).append(
            Parameter(  # type: ignore[abstract]  # moto makes it in the same way
                account_id=parameters.account_id,
                name=name,
                value=image,
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=utcnow(),
                version=1,
                data_type="aws:ec2:image",
            )
        )


def _images() -> Iterator[tuple[str, str]]:
    for version in VERSIONS:
        for variant in ("standard", "nvidia"):
            folder = f"{_PREFIXES[0]}/{version}/amazon-linux-2023/x86_64/{variant}"
            kind = f"amazon-eks-node-al2023-x86_64-{variant}-{version}"
            releases = node_releases(f"AL2023_x86_64_{variant.upper()}", version)
            for release in releases:
                date = release.rpartition("-")[2]
                yield f"{folder}/{kind}-v{date}/image_id", _id(kind, release)
            yield f"{folder}/recommended/image_id", _id(kind, releases[0])
        for variant in ("", "-nvidia"):
            kind = f"aws-k8s-{version}{variant}"
            releases = node_releases("BOTTLEROCKET", version)
            for release, called in [*((each, each) for each in releases), (releases[0], "latest")]:
                yield f"{_PREFIXES[1]}/{kind}/x86_64/{called}/image_id", _id(kind, release)


def _id(kind: str, release: str) -> str:
    return f"ami-{hashlib.sha256(f'{kind} {release}'.encode()).hexdigest()[:17]}"
