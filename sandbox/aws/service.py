"""The base of the services that the sandbox has instead of moto's: JSON in, checked, a method, JSON out."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.validate import ParamValidator
from moto.core.parse import RestJSONParser
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random
from werkzeug.exceptions import NotFound

from sandbox.aws.cloud import ACCOUNT_ID, Cloud, wsgi_environ
from sandbox.aws.errors import AwsError, service_model
from sandbox.aws.messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from botocore.model import Shape


class JsonService:
    """A service whose operations are methods named as in botocore (`CreateCluster` is `create_cluster`).

    Args:
        cloud: the account it belongs to.
    """

    name: str
    invalid_code: str

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.account_id = ACCOUNT_ID

    def call(self, request: HttpRequest) -> HttpResponse:
        """Answer a request.

        Raises:
            AwsError: the request is refused.
        """
        operation, params = self._parse(request)
        model = service_model(self.name).operation_model(operation)
        method = getattr(self, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower(), None)
        if method is None:
            raise AwsError(
                "NotImplemented", f"The sandbox's {self.name} does not implement {operation}.", 501
            )
        if model.input_shape is not None:
            self._validate(params, model.input_shape)
        result = method(**params) or {}
        headers = (
            ("Content-Type", "application/x-amz-json-1.1" if request.action else "application/json"),
            ("x-amzn-RequestId", str(mock_random.uuid4())),
        )
        return HttpResponse(200, headers, json.dumps(result, default=_timestamp).encode())

    def _parse(self, request: HttpRequest) -> tuple[str, dict[str, Any]]:
        if request.action is not None:
            return request.action, request.json()
        wsgi = Request(wsgi_environ(request, self.cloud.addresses.endpoint))
        try:
            operation, url_params = get_service_router(self.name).match(wsgi)
        except NotFound as error:
            raise AwsError("UnknownOperationException", f"There is no {request.path}.", 404) from error
        parsed = RestJSONParser(operation).parse(
            {
                "method": wsgi.method,
                "values": wsgi.values,
                "headers": wsgi.headers,
                "body": request.body,
                "url_path": wsgi.path,
                "url_params": url_params,
            }
        )
        return operation.name, {key: value for key, value in parsed.items() if value is not None}

    def _validate(self, params: dict[str, Any], shape: Shape) -> None:
        report = ParamValidator().validate(params, shape)
        if report.has_errors():
            raise AwsError(self.invalid_code, report.generate_report().replace("\n", "; "))
        check_enums(params, shape, "", self.invalid_code)

    def invalid(self, message: str) -> AwsError:
        """Return the service's error for a bad parameter."""
        return AwsError(self.invalid_code, message, 400)


def check_enums(value: Any, shape: Shape, path: str, code: str) -> None:
    """Refuse a value that is none of its enumeration's, as AWS does and botocore does not.

    Raises:
        AwsError: with `code`.
    """
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                check_enums(value[name], member, f"{path}.{name}" if path else name, code)
    elif shape.type_name == "list" and isinstance(value, list):
        for number, item in enumerate(value, 1):
            check_enums(item, shape.member, f"{path}.{number}.member", code)
    elif shape.type_name == "string" and isinstance(value, str):
        allowed = getattr(shape, "enum", None)
        if allowed and value not in allowed:
            raise AwsError(
                code,
                f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(allowed)}]",
            )


def _timestamp(value: object) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def trusts(role_arn: str, service: str, actions: Collection[str] = frozenset({"sts:AssumeRole"})) -> bool:
    """Say whether a role is there, and its trust policy lets an AWS service take `actions` on it."""
    for role in iam_backends[ACCOUNT_ID]["aws"].roles.values():
        if role.arn == role_arn:
            return all(service in _trusted(role.assume_role_policy_document, each) for each in actions)
    return False


def _trusted(document: str | dict[str, Any], action: str) -> set[str]:
    """Return the AWS services that a trust policy allows an action."""
    policy = json.loads(document) if isinstance(document, str) else document
    statements = policy.get("Statement", [])
    trusted: set[str] = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        actions = statement.get("Action", [])
        named = {actions} if isinstance(actions, str) else set(actions)
        if statement.get("Effect") == "Allow" and named & {action, "sts:*", "*"}:
            trusted.update([services] if isinstance(services, str) else services)
    return trusted
