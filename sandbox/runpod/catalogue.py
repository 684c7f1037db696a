"""What RunPod rents out: GPU types and their pools, CPU flavours, data centers, and what of it stands where.

Pools, memory and serverless prices are RunPod's of August 2026. It publishes no stock, and no prices of CPUs
outside the catalogue itself: those here are the sandbox's own, fixed, with something missing in some places.
"""

from __future__ import annotations

from dataclasses import dataclass

_CUDA_VERSIONS = ("11.8", *(f"12.{minor}" for minor in range(10)), "13.0")
_COUNTRY_NAMES = {"CA": "Canada", "CZ": "Czechia", "IS": "Iceland", "NL": "Netherlands", "RO": "Romania",
                  "SE": "Sweden", "US": "US"}  # fmt: skip
STANDARD, HIGH_PERFORMANCE = VOLUME_TYPES = ("STANDARD", "HIGH_PERFORMANCE")
MOST_VCPUS = 32
MOST_GPUS = 8
USD_PER_VCPU_HOUR = 0.03
USD_PER_DISK_GB_MONTH = 0.10


@dataclass(frozen=True)
class GpuType:
    """One GPU type.

    Args:
        id: as `excludedTypes` names it.
        pool: as `pools` names it.
        memory_gib: of one GPU.
        usd_per_second: of one serverless worker with one GPU.
        first_cuda: the oldest CUDA version that runs on it.
    """

    id: str
    pool: str
    memory_gib: int
    usd_per_second: float
    first_cuda: str = "11.8"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.id.removeprefix("NVIDIA ").removeprefix("GeForce ")

    @property
    def cuda_versions(self) -> tuple[str, ...]:
        """The CUDA versions of the machines that have it."""
        return _CUDA_VERSIONS[_CUDA_VERSIONS.index(self.first_cuda) :]


@dataclass(frozen=True)
class CpuFlavor:
    """One kind of CPU worker.

    Args:
        id: as `cpu` names it.
        name: what people call it.
        memory_gib_per_vcpu: its memory grows with its virtual CPUs.
    """

    id: str
    name: str
    memory_gib_per_vcpu: int

    @property
    def group(self) -> str:
        """Its generation."""
        return f"Gen {self.id[3]}"


@dataclass(frozen=True)
class DataCenter:
    """One data center.

    Args:
        id: as `dataCenterIds` names it.
        volume_types: of the network volumes that it has, the default first.
        pools: of the GPUs that stand there.
        has_cpus: whether CPU workers run there.
    """

    id: str
    volume_types: tuple[str, ...]
    pools: tuple[str, ...]
    has_cpus: bool = True

    @property
    def country(self) -> str:
        """Two letters of ISO 3166."""
        first, second, _ = self.id.split("-")
        return second if first.startswith("EU") else first

    @property
    def name(self) -> str:
        """What people call it."""
        _, place, number = self.id.split("-")
        place = "" if self.country == place else f" {place}"
        return f"{_COUNTRY_NAMES[self.country]}{place} {number}"

    @property
    def region(self) -> str:
        """Its continent."""
        return "NORTH_AMERICA" if self.country in ("CA", "US") else "EUROPE"


GPU_TYPES = (
    GpuType("NVIDIA RTX A4000", "AMPERE_16", 16, 0.00016),
    GpuType("NVIDIA RTX A4500", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA RTX 4000 Ada Generation", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA RTX 2000 Ada Generation", "AMPERE_16", 16, 0.00016),
    GpuType("NVIDIA RTX A5000", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA L4", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 3090", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 4090", "ADA_24", 24, 0.00031),
    GpuType("NVIDIA GeForce RTX 5090", "ADA_32_PRO", 32, 0.00044, "12.8"),
    GpuType("NVIDIA A40", "AMPERE_48", 48, 0.00034),
    GpuType("NVIDIA RTX A6000", "AMPERE_48", 48, 0.00034),
    GpuType("NVIDIA L40", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA L40S", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA RTX 6000 Ada Generation", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA A100 80GB PCIe", "AMPERE_80", 80, 0.00076),
    GpuType("NVIDIA A100-SXM4-80GB", "AMPERE_80", 80, 0.00076),
    GpuType("NVIDIA H100 PCIe", "ADA_80_PRO", 80, 0.00116),
    GpuType("NVIDIA H100 80GB HBM3", "ADA_80_PRO", 80, 0.00116),
    GpuType("NVIDIA H100 NVL", "ADA_80_PRO", 94, 0.00116),
    GpuType("NVIDIA H200", "HOPPER_141", 141, 0.00155),
    GpuType("NVIDIA RTX PRO 6000 Blackwell Server Edition", "BLACKWELL_96", 96, 0.00111, "12.8"),
    GpuType("NVIDIA B200", "BLACKWELL_180", 180, 0.00240, "12.8"),
)
POOLS = tuple(dict.fromkeys(gpu.pool for gpu in GPU_TYPES))
CPU_FLAVORS = tuple(
    CpuFlavor(f"cpu{generation}{kind}", name, memory)
    for generation in (3, 5)
    for kind, name, memory in (("c", "Compute-Optimized", 2), ("g", "General Purpose", 4))
)
_BOTH = (STANDARD, HIGH_PERFORMANCE)
_SMALL = ("AMPERE_16", "AMPERE_24", "ADA_24", "ADA_32_PRO")
_LARGE = ("AMPERE_80", "ADA_80_PRO", "HOPPER_141", "BLACKWELL_180")
DATA_CENTERS = (
    DataCenter("CA-MTL-1", (STANDARD,), POOLS),
    DataCenter("CA-MTL-3", _BOTH, POOLS),
    DataCenter("EU-CZ-1", (STANDARD,), tuple(pool for pool in POOLS if pool not in _LARGE)),
    DataCenter("EU-NL-1", (STANDARD,), POOLS),
    DataCenter("EU-RO-1", _BOTH, POOLS),
    DataCenter("EU-SE-1", (STANDARD,), POOLS),
    DataCenter("EUR-IS-1", _BOTH, POOLS),
    DataCenter("EUR-IS-2", (STANDARD,), POOLS),
    DataCenter("US-CA-2", (STANDARD,), POOLS),
    DataCenter("US-GA-1", (), POOLS),
    DataCenter("US-GA-2", (STANDARD,), POOLS),
    DataCenter("US-IL-1", (STANDARD,), POOLS),
    DataCenter("US-KS-2", _BOTH, POOLS),
    DataCenter("US-KS-3", (), POOLS),
    DataCenter("US-NC-1", (STANDARD,), POOLS),
    DataCenter("US-TX-1", (), _SMALL),
    DataCenter("US-TX-3", (STANDARD,), POOLS),
    DataCenter("US-WA-1", (STANDARD,), _LARGE, has_cpus=False),
)


def types_of(pool: str) -> list[str]:
    """Return the GPU types of a pool."""
    return [gpu.id for gpu in GPU_TYPES if gpu.pool == pool]


def gpu_type(gpu_id: str) -> GpuType | None:
    """Return a GPU type by its id."""
    return next((gpu for gpu in GPU_TYPES if gpu.id == gpu_id), None)


def cpu_flavor(flavor_id: str) -> CpuFlavor | None:
    """Return a CPU flavour by its id."""
    return next((flavor for flavor in CPU_FLAVORS if flavor.id == flavor_id), None)


def data_center(center_id: str) -> DataCenter | None:
    """Return a data center by its id."""
    return next((center for center in DATA_CENTERS if center.id == center_id), None)


def is_at_least(version: str, floor: str) -> bool:
    """Compare CUDA versions as numbers: 12.11 is above 12.2, and 13 is any 13."""
    return [int(part) for part in version.split(".")] >= [int(part) for part in floor.split(".")]
