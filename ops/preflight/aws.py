"""The AWS account of a stack: who asks, and what the answers that are none mean."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from ops.preflight.findings import Finding, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NO_ANSWER = (BotoCoreError, ClientError)
"""What a service that refuses or does not answer makes these functions raise."""

_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Client.UnauthorizedOperation")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_WRONG = (
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "AuthFailure",
    "InvalidSignatureException",
)
_HAS_KEYS = "aws sts get-caller-identity"


@dataclass(frozen=True)
class Identity:
    """Whose the credentials are."""

    account: str
    arn: str


class Account:
    """The account that the credentials of an environment belong to.

    Args:
        environment: with AWS's variables, where they are not those of this process.
        region: the region to ask in.
    """

    def __init__(self, environment: Mapping[str, str] | None, region: str) -> None:
        given = environment or {}
        self.region = region
        self._session = boto3.Session(
            aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
            region_name=region,
        )
        self._endpoint = given.get("AWS_ENDPOINT_URL")
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._identity: Identity | Exception | None = None

    def client(self, service: str) -> Any:
        """Return a client of a service, which threads may share; a session makes one at a time only."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service, endpoint_url=self._endpoint, config=_CONFIG
                )
            return self._clients[service]

    def items(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Return a list of an answer with those of all its pages.

        Raises:
            BotoCoreError, ClientError: the service refuses or does not answer.
        """
        client = self.client(service)
        if not client.can_paginate(operation):
            return list(getattr(client, operation)(**parameters)[key])
        pages = client.get_paginator(operation).paginate(**parameters)
        return [item for page in pages for item in page.get(key, ())]

    def identity(self) -> Identity:
        """Return whose the credentials are; asked once.

        Raises:
            BotoCoreError, ClientError: there are none, or AWS does not take them.
        """
        with self._asking:
            if self._identity is None:
                try:
                    answer = self.client("sts").get_caller_identity()
                    self._identity = Identity(answer["Account"], answer["Arn"])
                except NO_ANSWER as error:
                    self._identity = error
        if isinstance(self._identity, Exception):
            raise self._identity
        return self._identity

    def ask(self, question: Callable[[], Finding]) -> Finding:
        """Return the answer to a question of somebody whom AWS knows, or why there is none."""
        try:
            self.identity()
        except NO_ANSWER:
            return unknown("not asked: AWS does not take the credentials", "see AWS: credentials")
        try:
            return question()
        except NO_ANSWER as error:
            return not_answered(error)


def code_of(error: Exception) -> str:
    """Return AWS's code of an error; empty where AWS has not answered."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def not_answered(error: Exception) -> Finding:
    """Return what it means that a service refused or did not answer."""
    said = " ".join(str(error).split())
    if code_of(error) in _DENIED:
        operation = error.operation_name if isinstance(error, ClientError) else ""
        return unknown(said, f"let the principal that deploys do {operation}")
    return unknown(
        said, "run the preflight again; https://health.aws.amazon.com says what AWS has trouble with"
    )


def refused_credentials(error: Exception) -> Finding:
    """Return why AWS does not say whose the credentials are."""
    said = " ".join(str(error).split())
    if isinstance(error, NoCredentialsError):
        return Finding(
            "no", "there are no AWS credentials in the environment", "aws configure sso, or aws login"
        )
    if code_of(error) in _EXPIRED or "expired" in said.lower():
        return Finding("no", f"they have expired: {said}", "aws sso login, or take a new session of the role")
    if code_of(error) in _WRONG:
        return Finding("no", said, f"look at AWS_ACCESS_KEY_ID and AWS_PROFILE, then {_HAS_KEYS}")
    if isinstance(error, ClientError) or type(error).__name__ in _CREDENTIAL_ERRORS:
        return Finding("no", said, f"aws configure list, then {_HAS_KEYS}")
    return not_answered(error)


_CREDENTIAL_ERRORS = (
    "ProfileNotFound",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "TokenRetrievalError",
)
