"""Reads what a client asks for in a request to `run` or `runsync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from sandbox.runpod.jobs import JobError, Order

if TYPE_CHECKING:
    from sandbox.runpod.limits import JobLimits

_WEEK_MS = 7 * 24 * 3600 * 1000


class _Policy(BaseModel):
    model_config = ConfigDict(strict=True)

    executionTimeout: Annotated[int, Field(ge=5000, le=_WEEK_MS)] | None = None  # noqa: N815  # the API's names
    ttl: Annotated[int, Field(ge=10_000, le=_WEEK_MS)] | None = None
    lowPriority: bool = False  # noqa: N815


class _Request(BaseModel):
    model_config = ConfigDict(strict=True)

    input: Any
    webhook: Annotated[str, Field(pattern=r"^https?://[^/]")] | None = None
    policy: _Policy = _Policy()
    s3Config: Any = None  # noqa: N815


def order(
    document: dict[str, Any], *, sync: bool, execution_seconds: float, kept_seconds: float, limits: JobLimits
) -> Order:
    """Return what a body asks for.

    Args:
        document: the body.
        sync: whether the client waits.
        execution_seconds: the endpoint's own limit.
        kept_seconds: how long the result is kept.
        limits: the platform's.

    Raises:
        JobError: a field is missing or wrong, or is one that the sandbox does not serve.
    """
    try:
        request = _Request.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise JobError(400, f"bad request: {path}: {first['msg'].lower()}") from error
    if request.s3Config is not None:
        raise JobError(400, "bad request: s3Config: the sandbox stores no results in S3")
    policy = request.policy
    return Order(
        input=None if request.input == {} else request.input,
        sync=sync,
        execution_seconds=policy.executionTimeout / 1000 if policy.executionTimeout else execution_seconds,
        ttl_seconds=policy.ttl / 1000 if policy.ttl else limits.ttl_seconds,
        kept_seconds=kept_seconds,
        low_priority=policy.lowPriority,
        webhook=request.webhook,
    )
