"""What a stack file asks of a GPU: its settings and the model's configuration, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.quantization import NEEDS
from ops.errors import OpsError
from ops.plan import counting, weights
from ops.plan.memory import Demand

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.plan.public_model import PublicModel

_CACHE_DTYPE = "--kv-cache-dtype"
_VLLM_LORA_RANK = 16


def demand(settings: Settings, model: PublicModel) -> Demand:
    """Return what a replica needs.

    Args:
        settings: the stack's.
        model: what is known of its model.

    Raises:
        OpsError: the model's parameters cannot be counted.
    """
    asked, serving = settings.model, settings.serving
    try:
        found = counting.of(model.config, labels=asked.task == "classify")
    except counting.UnknownArchitectureError as error:
        raise OpsError(
            f"{settings.file}: berth:model.name = {asked.name}: its memory cannot be estimated: {error}"
        ) from error
    size = weights.of(
        found,
        dtype=asked.dtype,
        quantization=asked.quantization,
        checkpoint_bytes=model.checkpoint_bytes,
        least_capability=_least_capability(asked.quantization or found.quantization.get("quant_method")),
    )
    activation_bytes = weights.DTYPE_BYTES[size.dtype]
    return Demand(
        architecture=found,
        weights=size,
        activation_bytes=activation_bytes,
        cache_bytes=_cache_bytes(serving.extra_args) or activation_bytes,
        max_model_len=asked.max_model_len,
        gpu_memory_utilization=serving.gpu_memory_utilization,
        max_num_seqs=serving.max_num_seqs,
        max_num_batched_tokens=serving.max_num_batched_tokens,
        enforce_eager=serving.enforce_eager,
        adapters=len(asked.adapters),
        adapter_rank=asked.max_lora_rank or _VLLM_LORA_RANK,
    )


def problems(settings: Settings, asked: Demand) -> list[str]:
    """Return why vLLM would refuse the model on whatever GPU."""
    longest = asked.architecture.max_positions
    # RoBERTa's first positions stand for padding, and are no text's.
    longest -= 2 if "oberta" in asked.architecture.name.lower() else 0
    if longest and asked.max_model_len > longest and not asked.architecture.stretched:
        key = f"{settings.file}: berth:model.max_model_len = {asked.max_model_len}"
        return [f"{key}: the model was made for {longest} tokens"]
    return []


def _least_capability(quantization: str | None) -> tuple[int, int] | None:
    return next((needs.least_capability for name, needs in NEEDS.items() if name == quantization), None)


def _cache_bytes(arguments: tuple[str, ...]) -> float | None:
    """Return the bytes of a number in the KV cache where the stack file chooses its format."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == _CACHE_DTYPE:
            value = value or (arguments[index + 1] if index + 1 < len(arguments) else "")
            return 1 if value.startswith(("fp8", "int8")) else None
    return None
