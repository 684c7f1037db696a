"""One build of the image on the machine that deploys, by the builder there, pushed to ECR from it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult

from infra import codebuild
from infra.codebuild import BuildError
from infra.image_build import ImageBuildProvider

BUILDERS = ("docker", "buildah")
"""The commands that can build it, in the order in which they are looked for; both know these options."""

_IMAGE_FOLDER = Path(__file__).resolve().parent.parent / "image"
_LOG_LINES = 30


# The class's module and name are in the state of every stack: moving it looks for every image again.
class LocalImageBuildProvider(ImageBuildProvider):
    """Builds the image whose tag is the hash of its source here, unless the registry has it already.

    Its own inputs are `url`, the repository's address without a tag; `source_sha256`, the hash of the source;
    `arguments`, the Dockerfile's; and `hub_token`, for a model that is not public, else None.
    `timeout_minutes` is how long each step may take.
    """

    inputs: ClassVar[tuple[str, ...]] = ("repository", "tag", "region", "endpoint")

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse an image that is to be built where nothing can build it, before anything is created."""
        if _olds.get("tag") == news.get("tag") or _builder() is not None:
            return CheckResult(news, [])
        words = f'image.builder "local" needs {" or ".join(BUILDERS)} on PATH, and neither is there'
        return CheckResult(news, [CheckFailure("builder", words)])

    def build(self, props: dict[str, Any]) -> None:
        """Build the image and push it.

        Raises:
            BuildError: there is no builder, or a step of it failed: the message has its last lines.
        """
        builder = _builder()
        if builder is None:
            raise BuildError(f"neither {' nor '.join(BUILDERS)} is on PATH")
        name = f"{props['url']}:{props['tag']}"
        host = props["url"].partition("/")[0]
        arguments = {"VERSION": props["tag"], "SOURCE_REVISION": props["source_sha256"], **props["arguments"]}
        options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        token = codebuild.client("ecr", props).get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(token["authorizationToken"]).decode().partition(":")
        step = _Steps(builder, 60 * int(props["timeout_minutes"]), (password, props.get("hub_token") or ""))
        with tempfile.TemporaryDirectory() as folder:
            if props.get("hub_token"):
                secret = Path(folder) / "hub-token"
                secret.touch(0o600)
                secret.write_text(props["hub_token"])
                options.append(f"--secret=id=hub-token,src={secret}")
            step("build", "--platform=linux/amd64", *options, "--tag", name, str(_IMAGE_FOLDER))
        step("login", "--username", user, "--password-stdin", host, stdin=password)
        try:
            step("push", name)
        finally:
            step("logout", host)


def _builder() -> str | None:
    return next((found for name in BUILDERS if (found := shutil.which(name))), None)


class _Steps:
    """Runs the builder's commands, and raises what one that failed said, without secrets."""

    def __init__(self, builder: str, timeout_seconds: float, secrets: tuple[str, ...]) -> None:
        self._builder = builder
        self._timeout_seconds = timeout_seconds
        self._secrets = [secret for secret in secrets if secret]

    def __call__(self, *arguments: str, stdin: str | None = None) -> None:
        what = f"{Path(self._builder).name} {arguments[0]}"
        print(f"{what}: {arguments[-1]}")
        try:
            ended = subprocess.run(
                [self._builder, *arguments],
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=self._timeout_seconds,
                env={**os.environ, "DOCKER_BUILDKIT": "1"},
            )
        except subprocess.TimeoutExpired:
            minutes = self._timeout_seconds / 60
            raise BuildError(f"`{what}` did not end within {minutes:.0f} minutes") from None
        if ended.returncode:
            log = ended.stdout
            for secret in self._secrets:
                log = log.replace(secret, "[secret]")
            last = [f"  {line}" for line in log.splitlines()[-_LOG_LINES:]]
            head = f"`{what}` ended with status {ended.returncode}; the last lines of its log:"
            raise BuildError("\n".join([head, *last]))
