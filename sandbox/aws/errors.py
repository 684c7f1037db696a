"""AWS errors, and how each of AWS's wire protocols writes them."""

from __future__ import annotations

import json
from functools import cache
from xml.sax.saxutils import escape

import botocore.loaders
from botocore.model import ServiceModel

from sandbox.aws.messages import HttpResponse


class AwsError(Exception):
    """An error that AWS answers a request with.

    Args:
        code: AWS's code, for example `DependencyViolation`.
        message: AWS's words.
        status: the HTTP status; by default what the service's model says, or 400.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service."""
    loader = botocore.loaders.Loader()
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


@cache
def _modelled_status(service: str, code: str) -> int:
    for shape in service_model(service).error_shapes:
        if shape.name == code:
            return int(shape.metadata.get("error", {}).get("httpStatusCode", 400))
    return 400


def render(error: AwsError, service: str, request_id: str) -> HttpResponse:
    """Write an error in the protocol of a service.

    Args:
        error: what went wrong.
        service: botocore's name of the service that was called.
        request_id: the id of the request that failed.
    """
    model = service_model(service)
    status = error.status or _modelled_status(service, error.code)
    protocol = str(model.resolved_protocol)
    code, message = escape(error.code), escape(error.message)
    if protocol in {"json", "rest-json"}:
        body = json.dumps({"__type": error.code, "message": error.message})
        content_type = "application/json" if protocol == "rest-json" else "application/x-amz-json-1.1"
    elif protocol == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
        content_type = "text/xml"
    elif service == "s3":
        body = (
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        content_type = "application/xml"
    else:
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        content_type = "text/xml"
    headers = (
        ("Content-Type", content_type),
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", error.code),
    )
    return HttpResponse(status, headers, body.encode())
