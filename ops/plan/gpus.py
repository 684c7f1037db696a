"""What a GPU has to offer a model: the memory that a program sees, and how fast it reads and multiplies.

Sources: NVIDIA's data sheets, products of dense matrices with sums in 32 bits; of memory, the total that
PyTorch and vLLM report on such a GPU, which is less than the name says ("GPU 0 has a total capacity of ...").
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.gpus import INSTANCE_GPUS, POOL_GPUS


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: what people call it.
        memory_gib: what a program sees of its memory.
        bandwidth_gb_per_second: of its memory, in units of 10^9 bytes.
        tflops: in bfloat16 or float16; of GPUs without bfloat16, in float16.
        tflops_8_bit: in FP8 where it multiplies in it, else as `tflops`.
        capability: CUDA's compute capability.
    """

    name: str
    memory_gib: float
    bandwidth_gb_per_second: float
    tflops: float
    tflops_8_bit: float
    capability: tuple[int, int]

    @property
    def memory_bytes(self) -> float:
        """The same in bytes."""
        return self.memory_gib * 2**30


# Name as RunPod's or the AWS table's, memory in GiB, GB/s, TFLOPS in 16 and 8 bits.
_FACTS: dict[str, tuple[float, float, float, float]] = {
    "nvidia-t4": (14.56, 300, 65, 65),
    "nvidia-a10g": (22.0, 600, 70, 70),
    "nvidia-l4": (22.0, 300, 121, 242),
    "nvidia-l40s": (44.4, 864, 362, 733),
    "nvidia-a100-40gb": (39.4, 1555, 312, 312),
    "nvidia-a100-80gb": (79.1, 2039, 312, 312),
    "nvidia-h100": (79.1, 3350, 989, 1979),
    "nvidia-h200": (139.7, 4800, 989, 1979),
    "NVIDIA RTX A4000": (15.6, 448, 76.7, 76.7),
    "NVIDIA RTX A4500": (19.5, 640, 94.6, 94.6),
    "NVIDIA RTX 4000 Ada Generation": (19.5, 360, 81.9, 163.8),
    "NVIDIA RTX 2000 Ada Generation": (15.6, 224, 48, 96),
    "NVIDIA RTX A5000": (23.5, 768, 111, 111),
    "NVIDIA L4": (22.0, 300, 121, 242),
    "NVIDIA GeForce RTX 3090": (23.5, 936, 71, 71),
    "NVIDIA GeForce RTX 4090": (23.5, 1008, 165, 330),
    "NVIDIA GeForce RTX 5090": (31.3, 1792, 209, 419),
    "NVIDIA A40": (44.4, 696, 149.7, 149.7),
    "NVIDIA RTX A6000": (47.4, 768, 154.8, 154.8),
    "NVIDIA L40": (44.4, 864, 181, 362),
    "NVIDIA L40S": (44.4, 864, 362, 733),
    "NVIDIA RTX 6000 Ada Generation": (47.4, 960, 364, 728),
    "NVIDIA A100 80GB PCIe": (79.1, 1935, 312, 312),
    "NVIDIA A100-SXM4-80GB": (79.1, 2039, 312, 312),
    "NVIDIA H100 PCIe": (79.1, 2000, 756, 1513),
    "NVIDIA H100 80GB HBM3": (79.1, 3350, 989, 1979),
    "NVIDIA H100 NVL": (93.0, 3938, 835, 1671),
    "NVIDIA H200": (139.7, 4800, 989, 1979),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": (94.9, 1597, 500, 1000),
    "NVIDIA B200": (178.3, 8000, 2250, 4500),
}


def of_instance(instance_type: str) -> Gpu:
    """Return one GPU of an EC2 instance type that has some."""
    found = INSTANCE_GPUS[instance_type]
    return Gpu(_short(found.model), *_FACTS[found.model], capability=found.compute_capability)


def of_pool(pool: str, excluded: tuple[str, ...] = ()) -> list[Gpu]:
    """Return the GPU types of a pool of RunPod's, any of which a worker may get.

    Args:
        pool: its id.
        excluded: types that the stack file takes out of its pools.
    """
    return [
        Gpu(_short(item.id), *_FACTS[item.id], capability=item.compute_capability)
        for item in POOL_GPUS[pool]
        if item.id not in excluded
    ]


def _short(name: str) -> str:
    if name.startswith("nvidia-"):
        return name.removeprefix("nvidia-").upper().replace("GB", " GB").replace("-", " ")
    for part in ("NVIDIA ", "GeForce ", " Generation", " Server Edition", " 80GB HBM3"):
        name = name.replace(part, "")
    return name
