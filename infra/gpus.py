"""The GPUs that the two clouds rent out: of AWS's machines, with the disks beside them; of RunPod's pools.

Sources: AWS's instance type pages; RunPod's documentation, "GPU types"; NVIDIA's compute capabilities.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceGpus:
    """The GPUs of one instance type, and its instance store.

    Attributes:
        model: NVIDIA's name of the GPU, in the form that labels use.
        count: how many there are.
        memory_gib: the memory of one.
        compute_capability: CUDA's, as (major, minor): which number formats the GPU multiplies in.
        instance_store_gb: the machine's own NVMe disks together, in units of 10^9 bytes as AWS gives them.
    """

    model: str
    count: int
    memory_gib: int
    compute_capability: tuple[int, int]
    instance_store_gb: int

    @property
    def instance_store_gib(self) -> int:
        """The same in GiB, rounded down."""
        return int(self.instance_store_gb * 10**9 // 2**30)


def _family(
    family: str,
    model: str,
    memory_gib: int,
    capability: tuple[int, int],
    sizes: dict[int, dict[str, int]],
) -> dict[str, InstanceGpus]:
    """Return a family's types from their sizes by number of GPUs, each with its instance store in GB."""
    return {
        f"{family}.{size}": InstanceGpus(model, count, memory_gib, capability, store)
        for count, stores in sizes.items()
        for size, store in stores.items()
    }


_G4DN = {
    1: {"xlarge": 125, "2xlarge": 225, "4xlarge": 225, "8xlarge": 900, "16xlarge": 900},
    4: {"12xlarge": 900},
    8: {"metal": 1800},
}
_G5 = {
    1: {"xlarge": 250, "2xlarge": 450, "4xlarge": 600, "8xlarge": 900, "16xlarge": 1900},
    4: {"12xlarge": 3800, "24xlarge": 3800},
    8: {"48xlarge": 7600},
}
_G6 = {
    1: {"xlarge": 250, "2xlarge": 450, "4xlarge": 600, "8xlarge": 900, "16xlarge": 1880},
    4: {"12xlarge": 3760, "24xlarge": 3760},
    8: {"48xlarge": 7520},
}
_G6E = {
    1: {"xlarge": 250, "2xlarge": 450, "4xlarge": 600, "8xlarge": 900, "16xlarge": 1900},
    4: {"12xlarge": 3800, "24xlarge": 3800},
    8: {"48xlarge": 7600},
}

INSTANCE_GPUS = {
    **_family("g4dn", "nvidia-t4", 16, (7, 5), _G4DN),
    **_family("g5", "nvidia-a10g", 24, (8, 6), _G5),
    **_family("g6", "nvidia-l4", 24, (8, 9), _G6),
    **_family("g6e", "nvidia-l40s", 48, (8, 9), _G6E),
    **_family("p4d", "nvidia-a100-40gb", 40, (8, 0), {8: {"24xlarge": 8000}}),
    **_family("p4de", "nvidia-a100-80gb", 80, (8, 0), {8: {"24xlarge": 8000}}),
    **_family("p5", "nvidia-h100", 80, (9, 0), {1: {"4xlarge": 3840}, 8: {"48xlarge": 30720}}),
    **_family("p5e", "nvidia-h200", 141, (9, 0), {8: {"48xlarge": 30720}}),
    **_family("p5en", "nvidia-h200", 141, (9, 0), {8: {"48xlarge": 30720}}),
}
"""Instance type to its GPUs."""


@dataclass(frozen=True)
class PoolGpu:
    """One GPU type of a pool of RunPod's.

    Attributes:
        id: RunPod's name of it.
        memory_gib: the memory of one.
        compute_capability: CUDA's, as (major, minor).
    """

    id: str
    memory_gib: int
    compute_capability: tuple[int, int]


POOL_GPUS = {
    "AMPERE_16": (
        PoolGpu("NVIDIA RTX A4000", 16, (8, 6)),
        PoolGpu("NVIDIA RTX A4500", 20, (8, 6)),
        PoolGpu("NVIDIA RTX 4000 Ada Generation", 20, (8, 9)),
        PoolGpu("NVIDIA RTX 2000 Ada Generation", 16, (8, 9)),
    ),
    "AMPERE_24": (
        PoolGpu("NVIDIA RTX A5000", 24, (8, 6)),
        PoolGpu("NVIDIA L4", 24, (8, 9)),
        PoolGpu("NVIDIA GeForce RTX 3090", 24, (8, 6)),
    ),
    "ADA_24": (PoolGpu("NVIDIA GeForce RTX 4090", 24, (8, 9)),),
    "ADA_32_PRO": (PoolGpu("NVIDIA GeForce RTX 5090", 32, (12, 0)),),
    "AMPERE_48": (PoolGpu("NVIDIA A40", 48, (8, 6)), PoolGpu("NVIDIA RTX A6000", 48, (8, 6))),
    "ADA_48_PRO": (
        PoolGpu("NVIDIA L40", 48, (8, 9)),
        PoolGpu("NVIDIA L40S", 48, (8, 9)),
        PoolGpu("NVIDIA RTX 6000 Ada Generation", 48, (8, 9)),
    ),
    "AMPERE_80": (
        PoolGpu("NVIDIA A100 80GB PCIe", 80, (8, 0)),
        PoolGpu("NVIDIA A100-SXM4-80GB", 80, (8, 0)),
    ),
    "ADA_80_PRO": (
        PoolGpu("NVIDIA H100 PCIe", 80, (9, 0)),
        PoolGpu("NVIDIA H100 80GB HBM3", 80, (9, 0)),
        PoolGpu("NVIDIA H100 NVL", 94, (9, 0)),
    ),
    "HOPPER_141": (PoolGpu("NVIDIA H200", 141, (9, 0)),),
    "BLACKWELL_96": (PoolGpu("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, (12, 0)),),
    "BLACKWELL_180": (PoolGpu("NVIDIA B200", 180, (10, 0)),),
}
"""Pool of RunPod's to the GPU types in it: a worker may get any of them."""
