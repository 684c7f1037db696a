"""Which images RunPod can pull: those of ECR, by a delegation or with a registry credential."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox.runpod.problems import Problem, bad_request

PULL_ROLES = (
    "arn:aws:iam::550005742258:role/prod-us-east-1-deployment-role",
    "arn:aws:iam::550005742258:role/prod-us-west-2-deployment-role",
)
"""RunPod's own roles, from its guide to private ECR images (beta of August 2026)."""

PULL_ACTIONS = (
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchGetImage",
)

_ARN = re.compile(
    r"^arn:aws[a-z-]*:ecr:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):repository/(?P<repository>[^:@]+)"
    r"(?::(?P<tag>[\w.-]+))?$"
)
_IMAGE = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<repository>[^:@]+)"
    r"(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


@dataclass(frozen=True)
class Repository:
    """An ECR repository."""

    account: str
    region: str
    name: str

    @property
    def host(self) -> str:
        """The registry's host in image names."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"


@dataclass(frozen=True)
class Login:
    """What a registry credential says.

    Args:
        username: `AWS` for ECR.
        password: for ECR a token of GetAuthorizationToken, good for 12 hours.
    """

    username: str
    password: str = field(repr=False)


class Registry(Protocol):
    """What the platform asks of the registry."""

    def policy(self, repository: Repository) -> str | None:
        """Return the repository's policy document; None when it has none."""

    def has_image(
        self, repository: Repository, *, tag: str | None, digest: str | None, login: Login | None = None
    ) -> bool:
        """Say whether the image exists: to whoever logs in, or by the delegation.

        Raises:
            Problem: the registry refuses the login, or does not answer.
        """


class EcrRegistry:
    """ECR's API at an address, with the credentials of the environment, and the registry behind it.

    Args:
        url: where both answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def policy(self, repository: Repository) -> str | None:
        """Return the repository's policy document; None when there is no policy or no such repository."""
        answer = self._ask(repository, "get_repository_policy")
        return str(answer["policyText"]) if answer else None

    def has_image(
        self, repository: Repository, *, tag: str | None, digest: str | None, login: Login | None = None
    ) -> bool:
        """Say whether the image exists.

        Raises:
            Problem: the registry refuses the login, or does not answer.
        """
        if login is not None:
            return self._manifest_status(repository, digest or tag or "latest", login) == 200
        image_id = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
        answer = self._ask(repository, "batch_get_image", imageIds=[image_id])
        return bool(answer and answer["images"])

    def _manifest_status(self, repository: Repository, reference: str, login: Login) -> int:
        try:
            status = httpx.head(
                f"{self._url}/v2/{repository.name}/manifests/{reference}",
                auth=(login.username, login.password),
                timeout=20.0,
                trust_env=False,
            ).status_code
        except httpx.HTTPError as error:
            raise _unreachable(repository, error) from error
        if status in (401, 403):
            raise Problem(422, f"pull access denied: {repository.host} does not take the registry credential")
        return status

    def _ask(self, repository: Repository, operation: str, **arguments: Any) -> dict[str, Any] | None:
        client = boto3.client(
            "ecr",
            region_name=repository.region,
            endpoint_url=self._url,
            config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2}),
        )
        try:
            answer: dict[str, Any] = getattr(client, operation)(
                registryId=repository.account, repositoryName=repository.name, **arguments
            )
        except ClientError as error:
            if error.response["Error"]["Code"].endswith("NotFoundException"):
                return None
            raise Problem(422, f"the registry {repository.host} refused: {error}") from error
        except BotoCoreError as error:
            raise _unreachable(repository, error) from error
        return answer


def _unreachable(repository: Repository, error: Exception) -> Problem:
    return Problem(422, f"the registry {repository.host} cannot be reached: {error}")


def parse_arn(text: str) -> tuple[Repository, str]:
    """Return the repository and the tag ("" without one) of a delegation's resource.

    Raises:
        Problem: it is not the ARN of an ECR repository.
    """
    match = _ARN.match(text)
    if match is None:
        raise bad_request(f"resource {text!r} is not the ARN of an ECR repository")
    return Repository(match["account"], match["region"], match["repository"]), match["tag"] or ""


def require_access(registry: Registry, repository: Repository) -> None:
    """Check that the repository's policy lets RunPod's roles pull.

    Raises:
        Problem: it does not.
    """
    text = registry.policy(repository)
    if text is None:
        raise bad_request(
            f"repository {repository.name} does not exist in {repository.host} or has no policy"
        )
    statements = json.loads(text).get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement.get("Effect") == "Allow" and _actions(statement) and _roles(statement):
            return
    raise bad_request(
        f"the policy of repository {repository.name} does not allow {', '.join(PULL_ACTIONS)} "
        f"to {' and '.join(PULL_ROLES)}"
    )


def _actions(statement: dict[str, Any]) -> bool:
    actions = _list(statement.get("Action"))
    return "ecr:*" in actions or set(PULL_ACTIONS) <= set(actions)


def _roles(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal")
    named = _list(principal.get("AWS")) if isinstance(principal, dict) else _list(principal)
    condition = statement.get("Condition", {})
    if "*" in named and condition:
        named = [role for operator in condition.values() for role in _list(operator.get("aws:PrincipalArn"))]
    return "*" in named or set(PULL_ROLES) <= set(named)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def require_image(
    registry: Registry | None, delegations: list[dict[str, Any]], image: str, login: Login | None = None
) -> None:
    """Check that an image can be pulled.

    Args:
        registry: where it would be; None resolves no image.
        delegations: of repositories, as the API shows them.
        image: by tag or digest.
        login: of the endpoint's registry credential, which then decides alone.

    Raises:
        Problem: 422 saying why not.
    """
    match = _IMAGE.match(image)
    if match is None or registry is None:
        raise Problem(
            422,
            f"image {image!r} could not be resolved: the sandbox knows only images of ECR, in the registry "
            "that it was started with",
        )
    repository = Repository(match["account"], match["region"], match["repository"])
    if login is None and not any(
        (item["awsUser"], item["awsRegion"], item["repository"])
        == (repository.account, repository.region, repository.name)
        for item in delegations
    ):
        raise Problem(
            422,
            f"image {image!r} could not be resolved: pull access denied: no delegation of the ECR repository "
            f"{repository.name} is registered",
        )
    if not registry.has_image(repository, tag=match["tag"], digest=match["digest"], login=login):
        raise Problem(422, f"image {image!r} could not be resolved: manifest unknown")
