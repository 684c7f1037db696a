"""Brings an image that is not Berth's into the clouds of a running stack, as its owner would."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.models import speech

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

_NAME = "speech"
# RunPod's principals, as its documentation on private images names them (infra/registry.py).
_PULLERS = [
    f"arn:aws:iam::550005742258:role/prod-{region}-deployment-role" for region in ("us-east-1", "us-west-2")
]


class SpeechImage:
    """The image of a server that speaks, in a repository of ECR that RunPod may pull from."""

    def __init__(self, clone: Clone, folder: Path) -> None:
        """Build and push it, and let RunPod in."""
        self._clone = clone
        context = shutil.copytree(Path(__file__).with_name("speech_image"), folder / "context")
        shutil.copy(speech.__file__, context / "speech.py")
        shutil.copytree(speech.installed(), context / "espeakng_loader")
        repository = clone.aws("ecr", "create-repository", "--repository-name", _NAME)["repository"]
        actions = [
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
        ]
        statement = {"Effect": "Allow", "Principal": {"AWS": _PULLERS}, "Action": actions}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        clone.aws("ecr", "set-repository-policy", "--repository-name", _NAME, "--policy-text", policy)
        name = repository["repositoryUri"]
        (login,) = clone.aws("ecr", "get-authorization-token")["authorizationData"]
        user, _, password = base64.b64decode(login["authorizationToken"]).decode().partition(":")
        host = name.partition("/")[0]
        self._docker(folder, "login", "--username", user, "--password-stdin", host, stdin=password)
        self._docker(folder, "build", "--platform", "linux/amd64", "-t", f"{name}:1", str(context))
        self._docker(folder, "push", f"{name}:1")
        shown = self._docker(folder, "inspect", "--format", "{{index .RepoDigests 0}}", f"{name}:1")
        self.reference = shown.strip()
        wanted = {"resource": repository["repositoryArn"], "name": _NAME}
        self._delegation = self._runpod("POST", "", wanted)["id"]

    def remove(self) -> None:
        """Take it all away, so that the stack's own is all that could be left."""
        self._runpod("DELETE", f"/{self._delegation}")
        self._clone.aws("ecr", "delete-repository", "--repository-name", _NAME, "--force")

    def _docker(self, folder: Path, *arguments: str, stdin: str = "") -> str:
        keys = self._clone.credentials()
        endpoint = f"http://127.{self._clone.block}.0.1:4566"
        environment = {
            **os.environ,
            "DOCKER_CONFIG": str(folder / "docker"),
            "BERTH_SANDBOX_REGISTRY": endpoint,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        argv = [sys.executable, "-m", "sandbox.docker", *arguments]
        done = subprocess.run(
            argv,
            input=stdin,
            env=environment,
            cwd=self._clone.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _runpod(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
        answer = httpx.request(
            method,
            f"http://127.{self._clone.block}.0.2:4567/v2/registries/delegations{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._clone.credentials()['runpod_api_key']}"},
            timeout=60,
        )
        assert answer.is_success, answer.text
        made: dict[str, str] = answer.json() if answer.content else {}
        return made
