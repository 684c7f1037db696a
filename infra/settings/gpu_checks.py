"""What must hold between number formats and the GPUs that are rented for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.gpus import INSTANCE_GPUS, POOL_GPUS
from infra.quantization import NEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings.eks import EksSettings
    from infra.settings.model import ModelSettings
    from infra.settings.runpod import RunpodSettings

_TENSOR_CORE_BFLOAT16 = (8, 0)


def across(
    model: ModelSettings, eks: EksSettings | None, runpod: RunpodSettings | None
) -> Iterator[tuple[str, str]]:
    """Yield formats that a GPU does not have, as pairs of dotted key and reason.

    Args:
        model: the section `model`.
        eks: the section `eks`, where it is a target.
        runpod: the section `runpod`, where it is a target.
    """
    for gpu, where, capability in _gpus(eks, runpod):
        if model.dtype == "bfloat16" and capability < _TENSOR_CORE_BFLOAT16:
            yield "model.dtype", f' = "bfloat16": {gpu} of {where} cannot, use "float16"'
        if model.quantization is None:
            continue
        needs = NEEDS[model.quantization]
        if capability >= needs.least_capability:
            continue
        fitting = [name for name, its in NEEDS.items() if capability >= its.least_capability]
        yield (
            "model.quantization",
            (
                f' = "{model.quantization}" needs a GPU of compute capability '
                f"{_shown(needs.least_capability)}; {gpu} of {where} has {_shown(capability)}: "
                f"use one of {', '.join(fitting)}"
                + (
                    ", or leave it out where the checkpoint says it: its weights are then kept in 8 bits and "
                    "computed in 16"
                    if needs.capability <= capability
                    else ""
                )
            ),
        )


def _gpus(
    eks: EksSettings | None, runpod: RunpodSettings | None
) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield the kinds of GPUs that a replica may get: name, where the stack file has it, capability."""
    for name, group in eks.gpu_node_groups.items() if eks else ():
        gpus = INSTANCE_GPUS[group.instance_types[0]]
        yield gpus.model, f"eks.gpu_node_groups.{name}", gpus.compute_capability
    for pool in runpod.gpu_pools if runpod else ():
        allowed = [gpu for gpu in POOL_GPUS[pool] if gpu.id not in runpod.excluded_gpu_types]  # type: ignore[union-attr]
        if allowed:
            least = min(allowed, key=lambda gpu: gpu.compute_capability)
            yield least.id, f"runpod.gpu_pools {pool}", least.compute_capability


def _shown(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
