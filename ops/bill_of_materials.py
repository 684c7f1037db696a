"""The bill of materials of an image in ECR: what packages are in it, read by syft from its layers."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError
from ops.image_scan import ECR_IMAGE, ecr_client

if TYPE_CHECKING:
    from collections.abc import Mapping

_SYFT = Path(sys.executable).parent / "syft"


def write(image: str, environment: Mapping[str, str], path: Path) -> None:
    """Pull an image and write its bill of materials, as CycloneDX in JSON.

    Args:
        image: `repository@digest`, in ECR.
        environment: the variables under which AWS's tools work on the stack.
        path: the file.

    Raises:
        OpsError: the image is not in ECR, AWS gives no access to it, or it cannot be read.
    """
    place = ECR_IMAGE.fullmatch(image)
    if place is None:
        raise OpsError(f"{image} is not in ECR, from which this command reads")
    try:
        granted = ecr_client(environment, place["region"]).get_authorization_token()["authorizationData"][0]
    except (ClientError, BotoCoreError) as error:
        raise OpsError(f"ECR gives no access to {image}: {error}") from error
    registry = urlsplit(granted["proxyEndpoint"])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "sbom.json"  # syft leaves an empty file behind where it fails
        done = subprocess.run(
            [
                _SYFT,
                "scan",
                f"registry:{registry.netloc}/{place['repository']}@{place['digest']}",
                "--output",
                f"cyclonedx-json={written}",
            ],
            env=os.environ | _syft(registry.scheme, registry.netloc, granted) | {"TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise OpsError(f"syft cannot read {image}: {done.stderr.strip()[-500:]}")
        shutil.move(written, path)


def _syft(scheme: str, host: str, granted: Mapping[str, Any]) -> dict[str, str]:
    """Return syft's settings: in the environment, so that the token is on no command line."""
    user, _, token = base64.b64decode(granted["authorizationToken"]).decode().partition(":")
    return {
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "SYFT_QUIET": "true",
        "NO_COLOR": "1",
        "SYFT_REGISTRY_INSECURE_USE_HTTP": str(scheme == "http").lower(),
        "SYFT_REGISTRY_AUTH_AUTHORITY": host,
        "SYFT_REGISTRY_AUTH_USERNAME": user,
        "SYFT_REGISTRY_AUTH_PASSWORD": token,
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), host.partition(":")[0]))),
    }
