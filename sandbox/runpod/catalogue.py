"""What RunPod rents out: GPU types and their pools, CPU families, data centers. Facts of August 2026."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GpuType:
    """One GPU type.

    Args:
        id: as `excludedTypes` names it.
        pool: as `pools` names it.
        memory_gib: of one GPU.
        usd_per_second: of one serverless worker with one GPU.
    """

    id: str
    pool: str
    memory_gib: int
    usd_per_second: float

    def document(self) -> dict[str, Any]:
        """Return it as the catalogue lists it."""
        hourly = round(self.usd_per_second * 3600, 3)
        return {
            "id": self.id,
            "name": self.id.removeprefix("NVIDIA ").removeprefix("GeForce "),
            "pool": self.pool,
            "manufacturer": "NVIDIA",
            "memory": self.memory_gib,
            "secure": True,
            "community": False,
            "price": {"secure": hourly, "community": 0.0, "serverless": hourly},
            "maxCount": {"secure": 8, "community": 0},
        }


GPU_TYPES = (
    GpuType("NVIDIA RTX A4000", "AMPERE_16", 16, 0.00016),
    GpuType("NVIDIA RTX A4500", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA RTX 4000 Ada Generation", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA RTX 2000 Ada Generation", "AMPERE_16", 16, 0.00016),
    GpuType("NVIDIA RTX A5000", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA L4", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 3090", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 4090", "ADA_24", 24, 0.00031),
    GpuType("NVIDIA GeForce RTX 5090", "ADA_32_PRO", 32, 0.00044),
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
    GpuType("NVIDIA RTX PRO 6000 Blackwell Server Edition", "BLACKWELL_96", 96, 0.00111),
    GpuType("NVIDIA B200", "BLACKWELL_180", 180, 0.00240),
)
POOLS = tuple(dict.fromkeys(gpu.pool for gpu in GPU_TYPES))
CPU_FAMILIES = ("cpu3c", "cpu3g", "cpu5c", "cpu5g")
CPU_MEMORY_GIB_PER_VCPU = {"c": 2, "g": 4}
DATA_CENTERS = (
    "CA-MTL-1",
    "CA-MTL-3",
    "EU-CZ-1",
    "EU-NL-1",
    "EU-RO-1",
    "EU-SE-1",
    "EUR-IS-1",
    "EUR-IS-2",
    "US-CA-2",
    "US-GA-1",
    "US-GA-2",
    "US-IL-1",
    "US-KS-2",
    "US-KS-3",
    "US-NC-1",
    "US-TX-1",
    "US-TX-3",
    "US-WA-1",
)


def types_of(pool: str) -> list[str]:
    """Return the GPU types of a pool."""
    return [gpu.id for gpu in GPU_TYPES if gpu.pool == pool]
