"""The query parameters that REST v2 takes: unknown ones are ignored, known ones must be well formed."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from sandbox.runpod.problems import unprocessable

if TYPE_CHECKING:
    from starlette.requests import Request

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _parts(text: str) -> list[str]:
    return text.split(",") if text else []


def _integer(text: str) -> int:
    if re.fullmatch(r"-?[0-9]+", text) is None:
        raise ValueError("value must be an integer")
    return int(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("value must be true or false")
    return text == "true"


def instant(text: str) -> datetime:
    """Read a time of RFC 3339.

    Raises:
        ValueError: it is none.
    """
    if _DATE_TIME.fullmatch(text) is None:
        raise ValueError("value must be a date-time of RFC 3339")
    return datetime.fromisoformat(text.upper())


Integer = Annotated[int, BeforeValidator(_integer)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Instant = Annotated[datetime, BeforeValidator(instant)]
Split = BeforeValidator(_parts)
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Cuda = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
CudaFloor = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]


class Query(BaseModel):
    """The parameters of one operation."""

    model_config = ConfigDict(extra="ignore")

    def sent(self) -> dict[str, Any]:
        """Return what the caller sent, and nothing else."""
        return self.model_dump(exclude_unset=True)


Parameters = TypeVar("Parameters", bound=Query)


class GpuQuery(Query):
    """Of the catalogue of GPUs."""

    include: Annotated[list[Literal["AVAILABILITY"]], Split, Field(max_length=1)] = []
    product: Annotated[list[Literal["POD", "CLUSTER", "SERVERLESS"]], Split] = []
    count: Annotated[Integer, Field(ge=1)] = 1
    cloud: Literal["SECURE", "COMMUNITY"] = "SECURE"
    countryCodes: Annotated[list[Country], Split] = []  # noqa: N815  # the API's names, here and below
    cudaVersions: Annotated[list[Cuda], Split] = []  # noqa: N815
    minCudaVersion: CudaFloor | None = None  # noqa: N815


class CpuQuery(Query):
    """Of the catalogue of CPUs."""

    include: Annotated[list[Literal["AVAILABILITY"]], Split, Field(max_length=1)] = []
    product: Annotated[list[Literal["POD", "SERVERLESS"]], Split] = []
    vcpuCount: Annotated[Integer, Field(ge=2)] = 2  # noqa: N815


_Region = Literal["NORTH_AMERICA", "SOUTH_AMERICA", "EUROPE", "ASIA", "MIDDLE_EAST", "AFRICA", "OCEANIA",
                  "ANTARCTICA", "UNKNOWN"]  # fmt: skip
_Compliance = Literal["GDPR", "ISO_IEC_27001", "ISO_14001", "PCI_DSS", "HITRUST", "SOC_1_TYPE_2",
                      "SOC_2_TYPE_2", "SOC_3_TYPE_2", "ITAR", "FISMA_HIGH", "HIPAA", "RENEWABLE"]  # fmt: skip


class DataCenterQuery(Query):
    """Of the catalogue of data centers."""

    include: Annotated[list[Literal["GPU_AVAILABILITY", "CPU_AVAILABILITY"]], Split] = []
    regions: Annotated[list[_Region], Split] = []
    networkVolumeTypes: Annotated[list[Literal["STANDARD", "HIGH_PERFORMANCE"]], Split] = []  # noqa: N815
    compliance: Annotated[list[_Compliance], Split] = []
    globalNetwork: Boolean | None = None  # noqa: N815


class TemplateQuery(Query):
    """Of the catalogue of templates."""

    source: Literal["official", "verified", "community"] = "official"


class BillingQuery(Query):
    """Of the bill."""

    startTime: Instant | None = None  # noqa: N815
    endTime: Instant | None = None  # noqa: N815
    bucketSize: Literal["hour", "day", "week", "month", "year"] = "day"  # noqa: N815
    lastN: Annotated[Integer, Field(ge=1)] | None = None  # noqa: N815
    serverlessId: str | None = None  # noqa: N815


class LogQuery(Query):
    """Of a worker's log."""

    source: Literal["container", "system"] | None = None
    tail: Annotated[Integer, Field(ge=0, le=5000)] = 100
    since: Instant | None = None


def parse(model: type[Parameters], request: Request) -> Parameters:
    """Read the parameters of a request.

    Raises:
        Problem: 422 naming every one that does not fit.
    """
    try:
        return model.model_validate(dict(request.query_params))
    except pydantic.ValidationError as error:
        raise unprocessable(
            *(
                f"$.query.{item['loc'][0]}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            )
        ) from error
