"""Calls to AWS through boto3: clients, endpoints, and errors as one line with AWS's own code and words."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Final

import boto3
import botocore.exceptions
from botocore.config import Config

from sandbox.plugins.errors import PluginError

# The official provider's names of service endpoints, where they differ from botocore's service names.
_ENDPOINT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "elbv2": ("elbv2", "elasticloadbalancingv2", "elb", "elasticloadbalancing", "lb"),
    "logs": ("logs", "cloudwatchlogs", "cloudwatchlog"),
}
_NOT_FOUND: Final = re.compile(r"NotFound|NoSuch|DoesNotExist|Nonexistent|^404$")
_IN_USE: Final = re.compile(r"DependencyViolation|DeleteConflict|InUse|OperationAborted|AssociatedItem")
_EXISTS: Final = re.compile(r"AlreadyExist|InUse|Duplicate|AlreadyOwned|AlreadyAssociated")


class CloudError(PluginError):
    """AWS refused a call.

    Args:
        operation: the API operation.
        code: AWS's error code.
        words: AWS's message.
    """

    def __init__(self, operation: str, code: str, words: str) -> None:
        super().__init__(f"{operation}: {code}: {words}")
        self.code, self.words = code, words

    @property
    def not_found(self) -> bool:
        """Whether the object does not exist."""
        return bool(_NOT_FOUND.search(self.code))

    @property
    def in_use(self) -> bool:
        """Whether something that still goes away keeps the object from being deleted."""
        return bool(_IN_USE.search(self.code))

    @property
    def exists(self) -> bool:
        """Whether an object of that name exists already."""
        return bool(_EXISTS.search(self.code))


@dataclass(frozen=True)
class Configuration:
    """The provider's settings.

    Args:
        region: the region to work in; boto3's own search order where it is None.
        access_key: access key id; boto3's own search order where it is None.
        secret_key: its secret.
        token: its session token.
        profile: a profile of the shared configuration files.
        endpoints: endpoint URL by the official provider's service name.
        default_tags: tags for every object that can bear tags.
        max_attempts: how often a call is tried at most.
        path_style: whether bucket names go into the path of URLs.
    """

    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    profile: str | None = None
    endpoints: dict[str, str] = field(default_factory=dict)
    default_tags: dict[str, str] = field(default_factory=dict)
    max_attempts: int = 10
    path_style: bool = False


class Cloud:
    """AWS with one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        try:
            self._session = boto3.Session(
                aws_access_key_id=configuration.access_key,
                aws_secret_access_key=configuration.secret_key,
                aws_session_token=configuration.token,
                region_name=configuration.region,
                profile_name=configuration.profile,
            )
        except botocore.exceptions.BotoCoreError as error:
            raise PluginError(f"aws: {error}") from error
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        if not self._session.region_name:
            raise PluginError("aws: no region is set; set `region` on the provider or AWS_REGION")
        self.region: str = self._session.region_name

    def client(self, service: str, region: str | None = None) -> Any:
        """Return the boto3 client of a service; making one is not safe in parallel, using one is."""
        key = service, region or self.region
        with self._lock:
            if key not in self._clients:
                configuration = self.configuration
                self._clients[key] = self._session.client(
                    service,
                    region_name=key[1],
                    endpoint_url=self._endpoint(service),
                    config=Config(
                        retries={"mode": "standard", "total_max_attempts": configuration.max_attempts},
                        s3={"addressing_style": "path"} if configuration.path_style else None,
                        max_pool_connections=64,
                    ),
                )
            return self._clients[key]

    def _endpoint(self, service: str) -> str | None:
        for name in _ENDPOINT_NAMES.get(service, (service,)):
            if url := self.configuration.endpoints.get(name):
                return url
        return None

    def call(
        self, service: str, operation: str, region: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Call an operation, named as boto3's method.

        Raises:
            CloudError: AWS refused it.
            PluginError: it could not be sent.
        """
        client = self.client(service, region)
        api_name = client.meta.method_to_api_mapping[operation]
        try:
            response: dict[str, Any] = getattr(client, operation)(**parameters)
        except botocore.exceptions.ClientError as error:
            details = error.response.get("Error", {})
            words = " ".join(str(details.get("Message", "")).split())
            raise CloudError(api_name, str(details.get("Code", "Unknown")), words) from error
        except botocore.exceptions.BotoCoreError as error:
            raise PluginError(f"{api_name}: {' '.join(str(error).split())}") from error
        return response

    def input_shape(self, service: str, operation: str) -> Any:
        """Return botocore's model of an operation's parameters."""
        client = self.client(service)
        name = client.meta.method_to_api_mapping[operation]
        return client.meta.service_model.operation_model(name).input_shape

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Who calls: `Account`, `Arn`, `UserId`."""
        return self.call("sts", "get_caller_identity")

    @property
    def account(self) -> str:
        """The account's number."""
        return str(self.identity["Account"])

    @functools.cached_property
    def partition(self) -> str:
        """The partition of ARNs, `aws` for the commercial regions."""
        return str(self._session.get_partition_for_region(self.region))

    @functools.cached_property
    def dns_suffix(self) -> str:
        """The domain of the region's services."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    def arn(self, service: str, resource: str, region: str | None = None, account: str | None = None) -> str:
        """Build an ARN; an empty region or account stays empty."""
        region = self.region if region is None else region
        account = self.account if account is None else account
        return f"arn:{self.partition}:{service}:{region}:{account}:{resource}"
