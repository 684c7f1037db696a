"""The GPUs of AWS's machines: which kind, how many, how much memory. Source: AWS's instance type pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceGpus:
    """The GPUs of one instance type.

    Attributes:
        model: NVIDIA's name of the GPU, in the form that labels use.
        count: how many there are.
        memory_gib: the memory of one.
        compute_capability: CUDA's, as (major, minor): which number formats the GPU multiplies in.
    """

    model: str
    count: int
    memory_gib: int
    compute_capability: tuple[int, int]


def _family(
    family: str, model: str, memory_gib: int, capability: tuple[int, int], counts: dict[int, str]
) -> dict[str, InstanceGpus]:
    return {
        f"{family}.{size}": InstanceGpus(model, count, memory_gib, capability)
        for count, sizes in counts.items()
        for size in sizes.split()
    }


_ONE_TO_EIGHT = {1: "xlarge 2xlarge 4xlarge 8xlarge 16xlarge", 4: "12xlarge 24xlarge", 8: "48xlarge"}

INSTANCE_GPUS = {
    **_family(
        "g4dn",
        "nvidia-t4",
        16,
        (7, 5),
        {1: "xlarge 2xlarge 4xlarge 8xlarge 16xlarge", 4: "12xlarge", 8: "metal"},
    ),
    **_family("g5", "nvidia-a10g", 24, (8, 6), _ONE_TO_EIGHT),
    **_family("g6", "nvidia-l4", 24, (8, 9), _ONE_TO_EIGHT),
    **_family("g6e", "nvidia-l40s", 48, (8, 9), _ONE_TO_EIGHT),
    **_family("p4d", "nvidia-a100-40gb", 40, (8, 0), {8: "24xlarge"}),
    **_family("p4de", "nvidia-a100-80gb", 80, (8, 0), {8: "24xlarge"}),
    **_family("p5", "nvidia-h100", 80, (9, 0), {1: "4xlarge", 8: "48xlarge"}),
    **_family("p5e", "nvidia-h200", 141, (9, 0), {8: "48xlarge"}),
    **_family("p5en", "nvidia-h200", 141, (9, 0), {8: "48xlarge"}),
}
"""Instance type to its GPUs."""
