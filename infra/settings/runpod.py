"""The section `runpod` of a stack file: one serverless endpoint, and what RunPod would refuse of it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from infra.settings.vocabulary import (
    Allowed,
    Count,
    CudaVersion,
    DiskGib,
    Positive,
    Section,
    Texts,
)

# RunPod's pools of GPUs; source: RunPod's documentation, "GPU types".
GpuPool = Literal[
    "AMPERE_16",
    "AMPERE_24",
    "ADA_24",
    "ADA_32_PRO",
    "AMPERE_48",
    "ADA_48_PRO",
    "AMPERE_80",
    "ADA_80_PRO",
    "HOPPER_141",
    "BLACKWELL_96",
    "BLACKWELL_180",
]


class VolumeSettings(Section):
    """A network volume in one data center, which keeps weights and compiled code between workers."""

    data_center_id: Annotated[
        str, Field(min_length=1), Allowed('a data center of RunPod\'s such as "EU-RO-1"')
    ]
    size_gib: Annotated[int, Field(ge=10, le=4096), Allowed("a whole number of GiB, 10 to 4096")]
    type: Literal["STANDARD", "HIGH_PERFORMANCE"] = "STANDARD"


class RunpodSettings(Section):
    """The RunPod serverless endpoint."""

    endpoint_type: Literal["LOAD_BALANCER", "QUEUE"] = "LOAD_BALANCER"
    gpu_pools: Annotated[
        tuple[GpuPool, ...],
        Field(min_length=1),
        Allowed(f"a list of one pool or more of {', '.join(get_args(GpuPool))}"),
    ]
    gpu_count: Positive | None = Field(default=None, description="else as many as the server needs")
    excluded_gpu_types: Texts = ()
    min_cuda_version: CudaVersion = "13.0"  # what vLLM's image is built for
    allowed_cuda_versions: Annotated[
        tuple[CudaVersion, ...], Allowed('a list of CUDA versions in quotes, such as ["13.0"]')
    ] = Field(default=(), description="these alone, in the place of `min_cuda_version`")
    workers_min: Count = 0
    workers_max: Positive = 1
    idle_timeout_seconds: Annotated[
        int, Field(ge=1, le=3600), Allowed("a whole number of seconds, 1 to 3600")
    ] = 60
    request_count: Positive | None = Field(
        default=None, description="requests in flight per worker before another worker starts"
    )
    queue_delay_seconds: (
        Annotated[float, Field(ge=0.5), Allowed("a number of seconds, 0.5 or more")] | None
    ) = Field(default=None, description="how long a job waits before another worker starts")
    disk_gib: DiskGib = 60
    data_center_ids: Texts = ()
    volumes: Annotated[
        tuple[VolumeSettings, ...], Allowed("a list of volumes, one for each data center")
    ] = ()
    registry_username: (
        Annotated[str, Field(min_length=1), Allowed("a name at the image's registry")] | None
    ) = Field(default=None, description="whose password is the secret registryPassword")
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] = "FLASHBOOT"
    timeout_ms: Annotated[
        int, Field(ge=5_000, le=604_800_000), Allowed("a whole number of milliseconds, 5000 to 604800000")
    ] = 330_000

    @property
    def scales_without_idle_timeout(self) -> bool:
        """Whether the endpoint is one of those that take no idle timeout: queues that scale by requests."""
        return self.endpoint_type == "QUEUE" and self.request_count is not None

    @property
    def placement(self) -> tuple[str, ...]:
        """The data centers where workers may run; anywhere if empty."""
        return self.data_center_ids or tuple(volume.data_center_id for volume in self.volumes)

    def problems(self) -> list[tuple[str, str]]:
        """Return what RunPod would refuse."""
        return [*self._scaling_problems(), *self._machine_problems(), *self._volume_problems()]

    def _scaling_problems(self) -> list[tuple[str, str]]:
        found = []
        if self.workers_min > self.workers_max:
            found.append(
                ("workers_min", f"= {self.workers_min} must be workers_max ({self.workers_max}) or less")
            )
        if self.endpoint_type == "LOAD_BALANCER":
            if self.request_count is None:
                found.append(
                    ("request_count", f'is missing: endpoint_type "{self.endpoint_type}" scales by it')
                )
            if self.queue_delay_seconds is not None:
                found.append(("queue_delay_seconds", 'goes with endpoint_type "QUEUE" only'))
        elif (self.request_count is None) == (self.queue_delay_seconds is None):
            found.append(
                (
                    "queue_delay_seconds",
                    'or request_count: endpoint_type "QUEUE" scales by exactly one of them',
                )
            )
        if self.scales_without_idle_timeout and "idle_timeout_seconds" in self.model_fields_set:
            found.append(
                (
                    "idle_timeout_seconds",
                    'does not go with request_count and endpoint_type "QUEUE": the platform takes none there',
                )
            )
        return found

    def _machine_problems(self) -> list[tuple[str, str]]:
        found = []
        if self.allowed_cuda_versions and "min_cuda_version" in self.model_fields_set:
            found.append(("min_cuda_version", "and allowed_cuda_versions exclude each other"))
        for key in ("gpu_pools", "excluded_gpu_types", "allowed_cuda_versions", "data_center_ids"):
            names = getattr(self, key)
            if twice := sorted({name for name in names if names.count(name) > 1}):
                found.append((key, f"has {', '.join(twice)} more than once"))
        return found

    def _volume_problems(self) -> list[tuple[str, str]]:
        found = []
        centers = [volume.data_center_id for volume in self.volumes]
        for index, center in enumerate(centers):
            if center in centers[:index]:
                found.append(
                    (f"volumes[{index}].data_center_id", f'= "{center}" has a volume already: one for each')
                )
            if self.data_center_ids and center not in self.data_center_ids:
                found.append(
                    (
                        f"volumes[{index}].data_center_id",
                        f'= "{center}" must be one of data_center_ids ({", ".join(self.data_center_ids)})',
                    )
                )
        return found
