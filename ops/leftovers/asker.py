"""Asks the services of one AWS account, page by page, by operations that only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import jmespath
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONFIG = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
# Services that answer for every region from one place.
_ELSEWHERE = {"pricing": "us-east-1"}


class Asker:
    """The account that the credentials of an environment belong to.

    Args:
        environment: with AWS's variables, where they are not those of this process.
        region: the region to look in.

    Raises:
        BotoCoreError, ClientError: there are no credentials, or AWS does not take them.
    """

    def __init__(self, environment: Mapping[str, str] | None, region: str) -> None:
        given = environment or {}
        self._session = boto3.Session(
            aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
            region_name=region,
        )
        self._endpoint = given.get("AWS_ENDPOINT_URL")
        self._clients: dict[str, Any] = {}
        self.region = region
        identity = self._client("sts").get_caller_identity()
        self.account: str = identity["Account"]
        self.partition: str = identity["Arn"].split(":")[1]

    def items(self, service: str, operation: str, expression: str, **parameters: Any) -> Iterator[Any]:
        """Yield what a JMESPath expression, whose result is a list, finds on every page of an answer.

        Raises:
            BotoCoreError, ClientError: the service refuses or does not answer.
        """
        found = jmespath.compile(expression)
        for page in self._pages(service, operation, parameters):
            yield from found.search(page) or ()

    def _pages(self, service: str, operation: str, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        client = self._client(service)
        if client.can_paginate(operation):
            yield from client.get_paginator(operation).paginate(**parameters)
            return
        # Some lists have pages that botocore knows no paginator for.
        while True:
            page = getattr(client, operation)(**parameters)
            yield page
            marker = page.get("NextMarker")
            if not marker:
                return
            parameters = {**parameters, "NextMarker": marker}

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service, region_name=_ELSEWHERE.get(service), endpoint_url=self._endpoint, config=_CONFIG
            )
        return self._clients[service]
