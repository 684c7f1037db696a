"""Troubles on demand, for tests: quotas, machines that are not to be had, leftovers, spot interruptions.

All of it is asked for under `/_sandbox/`, with the deployer's secret access key in the header
`x-sandbox-secret`, in JSON:

- `GET /_sandbox/faults` says what is set; `DELETE` sets all of it back.
- `PUT /_sandbox/faults` sets what the body names:
  - `quotas`: values in virtual CPUs by code, as `{"L-DB2E81BA": 0}`;
  - `no_capacity`: a list of `{"instance_type": "g6.xlarge", "zone": "us-east-1a"}` that EC2 has none of;
    without a zone, in every zone;
  - `leave_interfaces`: whether every node that ends leaves a network interface of the VPC CNI behind.
- `POST /_sandbox/interruptions` with `{"instance_id": "i-...", "seconds": 120}` gives notice to an instance
  of a node group: EKS cordons and drains its node, EC2 takes it back after `seconds` (0 to 120), and its Auto
  Scaling group replaces it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from sandbox.aws.capacity import QUOTAS, limits
from sandbox.aws.eks import instances
from sandbox.aws.messages import HttpRequest, HttpResponse, json_response

if TYPE_CHECKING:
    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import State

SECRET_HEADER = "x-sandbox-secret"  # noqa: S105  # a header's name


class Machine(BaseModel):
    """A kind of machine, in one zone or in all."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instance_type: str
    zone: str | None = None


class Settings(BaseModel):
    """What is to be set; what is not named stays as it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    quotas: dict[str, float] | None = None
    no_capacity: list[Machine] | None = None
    leave_interfaces: bool | None = None

    @pydantic.field_validator("quotas")
    @classmethod
    def _known(cls, quotas: dict[str, float] | None) -> dict[str, float] | None:
        codes = [quota.code for quota in QUOTAS]
        unknown = [code for code in quotas or {} if code not in codes]
        if unknown:
            raise ValueError(f"no such quota: {', '.join(unknown)}; there are {', '.join(codes)}")
        return quotas


class Interruption(BaseModel):
    """A notice that EC2 takes a spot instance back."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instance_id: str
    seconds: float = Field(default=120.0, ge=0, le=120)


@dataclass
class Faults:
    """The routes.

    Args:
        cloud: the account.
        state: EKS's state.
        secret: what the routes ask for in the header.
    """

    cloud: Cloud
    state: State
    secret: str

    def __post_init__(self) -> None:
        self.cloud.on_event("sandbox.faults_set", _set)

    def settings(self, request: HttpRequest) -> HttpResponse:
        """Answer requests to `/_sandbox/faults`."""
        if refused := self._refuse(request):
            return refused
        if request.method == "PUT":
            try:
                wanted = Settings.model_validate_json(request.body)
            except pydantic.ValidationError as error:
                return _unclear(error)
            self.cloud.record("sandbox.faults_set", **wanted.model_dump(exclude_none=True))
        elif request.method == "DELETE":
            self.cloud.record("sandbox.faults_set", quotas=None, no_capacity=[], leave_interfaces=False)
        elif request.method != "GET":
            return json_response(405, {"message": "There are GET, PUT and DELETE."})
        return json_response(200, self.cloud.inside(_described))

    def interruptions(self, request: HttpRequest) -> HttpResponse:
        """Answer requests to `/_sandbox/interruptions`."""
        if refused := self._refuse(request):
            return refused
        if request.method != "POST":
            return json_response(405, {"message": "There is POST only."})
        try:
            wanted = Interruption.model_validate_json(request.body)
        except pydantic.ValidationError as error:
            return _unclear(error)
        owner = self.cloud.inside(lambda: self._owner(wanted.instance_id))
        if owner is None:
            return json_response(
                404, {"message": f"{wanted.instance_id} is not a running instance of a node group."}
            )
        self.cloud.record("eks.interruption_noticed", **owner, **wanted.model_dump())
        return json_response(200, {**owner, **wanted.model_dump()})

    def _refuse(self, request: HttpRequest) -> HttpResponse | None:
        sent = request.header(SECRET_HEADER) or ""
        if hmac.compare_digest(sent.encode(), self.secret.encode()):
            return None
        return json_response(401, {"message": "missing or wrong sandbox secret"})

    def _owner(self, instance_id: str) -> dict[str, str] | None:
        for cluster in self.state.clusters.values():
            for name, nodegroup in cluster.nodegroups.items():
                if instance_id in instances.running(nodegroup):
                    return {"cluster": cluster.name, "nodegroup": name}
        return None


def _set(**settings: Any) -> None:
    if "quotas" in settings:
        wanted = settings["quotas"]
        limits.quotas = {} if wanted is None else {**limits.quotas, **wanted}
    if "no_capacity" in settings:
        limits.no_capacity = {(each["instance_type"], each.get("zone")) for each in settings["no_capacity"]}
    if "leave_interfaces" in settings:
        limits.leave_interfaces = settings["leave_interfaces"]


def _described() -> dict[str, Any]:
    lacking = sorted(limits.no_capacity, key=str)
    return {
        "quotas": {quota.code: limits.value(quota) for quota in QUOTAS},
        "no_capacity": [{"instance_type": kind, "zone": zone} for kind, zone in lacking],
        "leave_interfaces": limits.leave_interfaces,
    }


def _unclear(error: pydantic.ValidationError) -> HttpResponse:
    return json_response(
        422, {"message": "; ".join(f"{each['loc']}: {each['msg']}" for each in error.errors())}
    )
