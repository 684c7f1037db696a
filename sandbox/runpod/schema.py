"""The bodies that REST v2 takes, as strict as its OpenAPI document: no unknown field, no null."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from sandbox.runpod.problems import Problem, unprocessable

Text = Annotated[str, StringConstraints(min_length=1)]
GpuTypeId = Annotated[str, StringConstraints(pattern=r"^\s*[^-\s]")]
Cuda = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
CudaOrEmpty = Annotated[str, StringConstraints(pattern=r"^(\d+\.\d+)?$")]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Flashboot = Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"]
EndpointType = Literal["QUEUE", "LOAD_BALANCER"]
VolumeSize = Annotated[int, Field(ge=10, le=4096)]
VolumeType = Literal["STANDARD", "HIGH_PERFORMANCE"]

# An optional field may be left out but not null, so None is a default that no caller can send.
_ABSENT: Any = None


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    def sent(self) -> dict[str, Any]:
        """Return what the caller sent, and nothing else."""
        return self.model_dump(exclude_unset=True)


Body = TypeVar("Body", bound=_Body)


class _Gpu(_Body):
    excludedTypes: list[GpuTypeId] = _ABSENT  # noqa: N815  # the API's names, here and below
    count: Positive = _ABSENT
    allowedCudaVersions: list[Cuda] = _ABSENT  # noqa: N815


class CreateGpu(_Gpu):
    """GPUs of a new endpoint."""

    pools: Annotated[list[str], Field(min_length=1)]
    minCudaVersion: Cuda = _ABSENT  # noqa: N815


class UpdateGpu(_Gpu):
    """A change of GPUs; an empty CUDA version clears it."""

    pools: Annotated[list[str], Field(min_length=1)] = _ABSENT
    minCudaVersion: CudaOrEmpty = _ABSENT  # noqa: N815


class Cpu(_Body):
    """One CPU flavour."""

    id: Text
    vcpuCount: Annotated[int, Field(ge=2)]  # noqa: N815


class Workers(_Body):
    """How many workers, and how long an idle one is kept (seconds)."""

    min: Count = _ABSENT
    max: Count = _ABSENT
    idleTimeout: Annotated[int, Field(ge=1, le=3600)] = _ABSENT  # noqa: N815


class QueueDelay(_Body):
    """Scaling by how long a job waits (seconds)."""

    type: Literal["QUEUE_DELAY"]
    queueDelay: Annotated[float, Field(ge=0.5)]  # noqa: N815


class RequestCount(_Body):
    """Scaling by requests for each worker."""

    type: Literal["REQUEST_COUNT"]
    requestCount: Positive  # noqa: N815


Scaling = Annotated[QueueDelay | RequestCount, Field(discriminator="type")]


class _EndpointBody(_Body):
    image: str = _ABSENT
    args: str = _ABSENT
    disk: Positive = _ABSENT
    env: dict[str, str] = _ABSENT
    ports: list[str] = _ABSENT
    registry: str | None = None
    cpu: Annotated[list[Cpu], Field(min_length=1)] = _ABSENT
    workers: Workers = _ABSENT
    dataCenterIds: list[str] = _ABSENT  # noqa: N815
    networkVolumes: list[str] = _ABSENT  # noqa: N815
    flashboot: Flashboot = _ABSENT
    timeout: int = _ABSENT


class CreateEndpoint(_EndpointBody):
    """The body of `POST /v2/serverless`."""

    name: Text
    type: EndpointType
    scaling: Scaling
    gpu: CreateGpu = _ABSENT
    templateId: Text = _ABSENT  # noqa: N815


class UpdateEndpoint(_EndpointBody):
    """The body of `PATCH /v2/serverless/{id}`."""

    name: Text = _ABSENT
    scaling: Scaling = _ABSENT
    gpu: UpdateGpu = _ABSENT
    templateId: str = _ABSENT  # noqa: N815


class CreateVolume(_Body):
    """The body of `POST /v2/network-volumes`."""

    name: Text
    size: VolumeSize
    dataCenter: Text  # noqa: N815
    type: VolumeType = _ABSENT


class UpdateVolume(_Body):
    """The body of `PATCH /v2/network-volumes/{id}`."""

    name: Text = _ABSENT
    size: VolumeSize = _ABSENT


class CreateRegistry(_Body):
    """The body of `POST /v2/registries`."""

    name: Text
    username: Text
    password: Annotated[SecretStr, Field(min_length=1)]


class CreateDelegation(_Body):
    """The body of `POST /v2/registries/delegations`."""

    resource: str
    name: str | None = None


def parse(model: type[Body], content: bytes) -> Body:
    """Read a body.

    Raises:
        Problem: 400 for what is not JSON, 422 naming every field that does not fit.
    """
    try:
        document = json.loads(content, parse_float=_number)
    except ValueError as error:
        raise Problem(400, f"request body is not JSON: {error}") from error
    try:
        body = model.model_validate_json(json.dumps(document))
    except pydantic.ValidationError as error:
        raise unprocessable(*(_line(item) for item in error.errors())) from error
    errors = _beyond_types(body)
    if errors:
        raise unprocessable(*errors)
    return body


def _number(text: str) -> float:
    """Read a number with a point or exponent: what is whole is an integer in JSON Schema."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _line(error: Any) -> str:
    """Say one error in the platform's words, with the path of the object that holds the field."""
    path, kind = _path(error["loc"]), error["type"]
    holder, _, field = path.rpartition(".")
    if kind == "missing":
        return f"{holder}: missing property '{field}'"
    if kind == "extra_forbidden":
        return f"{holder}: additional properties '{field}' not allowed"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _path(location: tuple[Any, ...]) -> str:
    path = "$"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("QUEUE_DELAY", "REQUEST_COUNT"):  # which of two forms, not a field
            path += f".{part}"
    return path


def _beyond_types(body: _Body) -> list[str]:
    """Return what the OpenAPI document says about several fields at once."""
    errors = []
    sent = body.sent()
    gpu = sent.get("gpu", {})
    if isinstance(body, CreateEndpoint):
        if "templateId" not in sent and "image" not in sent:
            errors.append("$: missing property 'image'")
        if body.type == "LOAD_BALANCER" and body.scaling.type != "REQUEST_COUNT":
            errors.append("$.scaling.type: value must be 'REQUEST_COUNT' for type 'LOAD_BALANCER'")
    elif isinstance(body, UpdateVolume) and not sent:
        errors.append("$: minProperties: got 0, want 1")
    elif "excludedTypes" in gpu and "pools" not in gpu:
        errors.append("$.gpu: property 'excludedTypes' requires 'pools'")
    for path, items in (("$.gpu.excludedTypes", gpu.get("excludedTypes")), ("$.cpu", sent.get("cpu"))):
        if items and any(item in items[:index] for index, item in enumerate(items)):
            errors.append(f"{path}: items must be unique")
    return errors
