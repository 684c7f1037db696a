"""Settings of the cluster's machines: the system node group and the groups with GPUs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.gpus import INSTANCE_GPUS
from infra.settings.vocabulary import (
    Allowed,
    CapacityReservationId,
    Count,
    DiskGib,
    Flag,
    Positive,
    ReleaseVersion,
    Section,
    SomeTexts,
)

CapacityType = Literal["ON_DEMAND", "SPOT", "CAPACITY_BLOCK"]
OperatingSystem = Literal["AL2023", "BOTTLEROCKET"]


class NodeSettings(Section):
    """A managed node group: its machines and how many of them."""

    instance_types: SomeTexts
    desired: Count = 1
    min: Count = 0
    max: Positive = 1
    release_version: ReleaseVersion | None = Field(
        default=None, description="the machine image's release; else EKS's newest when the group is made"
    )

    def problems(self) -> list[tuple[str, str]]:
        """Return sizes that are out of order."""
        if self.min <= self.desired <= self.max:
            return []
        return [
            ("desired", f"= {self.desired} must be between min ({self.min}) and max ({self.max})"),
        ]


class SystemNodeSettings(NodeSettings):
    """CPU machines for what runs the cluster itself."""

    instance_types: SomeTexts = ("t3.large",)
    desired: Count = 2
    min: Count = 1
    max: Positive = 3
    disk_gib: DiskGib = 50


class WarmPoolSettings(Section):
    """Stopped machines that have been started once: a new one is there in a minute instead of three."""

    min_size: Count = 0
    max_prepared: Positive = 1
    state: Literal["STOPPED", "RUNNING"] = "STOPPED"  # a hibernated one keeps its memory, not its GPUs
    reuse_on_scale_in: Flag = False


class GpuNodeSettings(NodeSettings):
    """GPU machines for the model."""

    operating_system: OperatingSystem = "AL2023"
    capacity_type: CapacityType = "ON_DEMAND"
    capacity_reservation_id: CapacityReservationId | None = Field(
        default=None, description="the capacity block, where capacity_type is CAPACITY_BLOCK"
    )
    disk_gib: Annotated[int, Field(ge=200, le=16384), Allowed("a whole number of GiB, 200 to 16384")] = (
        200  # the image is 25 GiB unpacked, the old one stays during a rollout, and weights are beside them
    )
    warm_pool: WarmPoolSettings | None = None
    zone_index: Annotated[int, Field(ge=0, le=2), Allowed("the number of a zone, from 0")] | None = Field(
        default=None, description="machines in this zone of the network only"
    )

    def problems(self) -> list[tuple[str, str]]:
        """Return machines without a known GPU or with several kinds, and what a capacity type lacks."""
        found = super().problems()
        unknown = [name for name in self.instance_types if name not in INSTANCE_GPUS]
        if unknown:
            found.append(
                (
                    "instance_types",
                    f"{', '.join(unknown)}: must be of those with known GPUs: {', '.join(INSTANCE_GPUS)}",
                )
            )
        models = sorted({INSTANCE_GPUS[name].model for name in self.instance_types if name not in unknown})
        if len(models) > 1:
            found.append(("instance_types", f"mix {' and '.join(models)}: one group has one kind of GPU"))
        return found + self._capacity_problems()

    def _capacity_problems(self) -> list[tuple[str, str]]:
        found = []
        if self.capacity_type != "CAPACITY_BLOCK":
            if self.capacity_reservation_id is not None:
                found.append(("capacity_reservation_id", "goes with capacity_type CAPACITY_BLOCK only"))
        else:
            if self.capacity_reservation_id is None:
                found.append(("capacity_reservation_id", "is missing: a capacity block is known by it"))
            if len(self.instance_types) > 1:
                found.append(("instance_types", "has several: a capacity block is of one instance type"))
            if self.zone_index is None:
                found.append(("zone_index", "is missing: a capacity block is in one zone"))
            if self.warm_pool is not None:
                found.append(("warm_pool", "does not go with a capacity block: its machines are paid for"))
        if self.warm_pool is not None and self.capacity_type == "SPOT":
            found.append(("warm_pool", "does not go with spot machines: Auto Scaling refuses it"))
        reuses = self.warm_pool is not None and self.warm_pool.reuse_on_scale_in
        if reuses and self.operating_system == "BOTTLEROCKET":
            found.append(("warm_pool.reuse_on_scale_in", "must be false with operating_system BOTTLEROCKET"))
        return found
