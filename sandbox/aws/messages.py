"""HTTP requests to AWS and their answers as plain values, so that a request can be kept and played again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

_CREDENTIAL = re.compile(r"Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
_READ_ONLY = re.compile(
    r"^(Describe|Get|List|BatchGet|BatchCheck|BatchDescribe|Head|Lookup|Search|Filter|Test|Simulate|Validate|Decode)"
)
# Names that requests are signed for, where botocore calls the service otherwise.
_SIGNING_NAMES = {
    "elasticloadbalancing": "elbv2",
    "servicequotas": "service-quotas",
    "tagging": "resourcegroupstaggingapi",
    "monitoring": "cloudwatch",
    "events": "events",
    "states": "stepfunctions",
    "email": "ses",
}


@dataclass(frozen=True)
class HttpResponse:
    """An answer: status, headers, body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived.

    Args:
        method: GET, POST...
        target: path and query, still percent-encoded.
        headers: names and values in the order they came.
        body: all of it.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of a header, whatever the case of its name."""
        lowered = name.lower()
        return next((value for key, value in self.headers if key.lower() == lowered), None)

    @cached_property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @cached_property
    def form(self) -> dict[str, str]:
        """The body's parameters, where it is a form."""
        if not (self.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    @cached_property
    def credential(self) -> tuple[str, str, str] | None:
        """The access key, region and signing name that the request claims, if it is signed."""
        scope = self.header("authorization") or ""
        if credential := self.query.get("X-Amz-Credential"):
            scope = f"Credential={credential}"
        found = _CREDENTIAL.search(scope)
        return (found[1], found[3], found[4]) if found else None

    @cached_property
    def service(self) -> str:
        """Botocore's name of the service that the request is for; S3 when nothing says."""
        action = self.query.get("Action") or self.form.get("Action")
        if self.credential is None:
            return "sts" if action in {"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"} else "s3"
        name = self.credential[2]
        if name == "elasticloadbalancing" and (self.form or self.query).get("Version") == "2012-06-01":
            return "elb"
        return _SIGNING_NAMES.get(name, name)

    @cached_property
    def action(self) -> str | None:
        """The operation that the request names; REST services name none."""
        if target := self.header("x-amz-target"):
            return target.rpartition(".")[2]
        if self.service == "s3":
            return None
        return self.form.get("Action") or self.query.get("Action")

    @cached_property
    def read_only(self) -> bool:
        """Whether the request changes nothing."""
        if self.action is not None:
            return bool(_READ_ONLY.match(self.action))
        return self.method in {"GET", "HEAD", "OPTIONS"}

    def json(self) -> dict[str, object]:
        """Return the body as a JSON object."""
        loaded = json.loads(self.body or b"{}")
        if not isinstance(loaded, dict):
            raise TypeError("the body is not a JSON object")
        return loaded


def json_response(status: int, body: dict[str, Any]) -> HttpResponse:
    """Return an answer with a JSON body."""
    return HttpResponse(status, (("Content-Type", "application/json"),), json.dumps(body).encode())
