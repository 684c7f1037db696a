"""How many bytes a model's weights take on a GPU, by number format and quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.plan.architecture import Architecture
    from ops.plan.gpus import Gpu

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}
_ONLINE = {"fp8": 1.0, "fp8_per_tensor": 1.0, "int8_per_channel_weight_only": 1.0}
_FP8 = ("fp8", "fp8_per_tensor", "fbgemm_fp8", "modelopt")
_SCALE_BYTES = 2.0
_BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Weights:
    """The weights as vLLM holds them.

    Attributes:
        total_bytes: of all GPUs together, what each has a copy of left out.
        format: in words, for people.
        source: what the size was computed from.
        dtype: the number format of activations.
        quantization: vLLM's name of it; None if there is none.
        least_capability: the compute capability that it needs; None if any does.
    """

    total_bytes: float
    format: str
    source: str
    dtype: str
    quantization: str | None
    least_capability: tuple[int, int] | None

    def of_one_gpu(self, tensor_parallel_size: int) -> float:
        """Return the share of one of so many GPUs."""
        return self.total_bytes / tensor_parallel_size

    @property
    def multiplies_in_8_bits(self) -> bool:
        """Whether activations too are in 8 bits; of other quantizations the weights alone are packed."""
        return self.quantization in _FP8

    def refused_by(self, gpu: Gpu) -> str:
        """Return why a GPU cannot compute with them; empty if it can."""
        if self.dtype == "bfloat16" and gpu.capability < _BFLOAT16_CAPABILITY:
            return f'{gpu.name} does not multiply in bfloat16: set model.dtype to "float16"'
        if self.least_capability and gpu.capability < self.least_capability:
            needed = ".".join(map(str, self.least_capability))
            return f"{self.quantization} needs compute capability {needed}, which {gpu.name} has not"
        return ""


def of(
    architecture: Architecture,
    *,
    dtype: str,
    quantization: str | None,
    checkpoint_bytes: int | None,
    least_capability: tuple[int, int] | None = None,
) -> Weights:
    """Return the size of a model's weights.

    The larger of what is computed and what the files of a quantized model have: which layers a quantization
    leaves out, only they know.

    Args:
        architecture: the model's.
        dtype: of the stack file; `auto` is that of the model, or 16 bits where that is float32.
        quantization: of the stack file; None takes that of the model's own configuration.
        checkpoint_bytes: of the files with the weights, where a hub has told.
        least_capability: the compute capability that the quantization needs.
    """
    own = architecture.quantization
    activations = _activations(architecture.dtype if dtype == "auto" else dtype, automatic=dtype == "auto")
    plain = DTYPE_BYTES[activations]
    name = quantization or own.get("quant_method")
    if not name:
        return Weights(
            architecture.parameters * plain, activations, "its configuration", activations, None, None
        )
    packed = _packed_bytes(str(name), own)
    computed = architecture.linear * (packed or plain) + architecture.other * plain
    source = "its configuration"
    if own and checkpoint_bytes and checkpoint_bytes > computed:
        computed, source = float(checkpoint_bytes), "its files"
    bits = f"{packed * 8:.3g} bits for each weight" if packed else "as large as without"
    return Weights(computed, f"{name}, {bits}", source, activations, str(name), least_capability)


def _activations(dtype: str, *, automatic: bool) -> str:
    if dtype not in DTYPE_BYTES:
        return "bfloat16"
    # vLLM takes a model of 32 bits in 16, unless it is told otherwise.
    return "bfloat16" if automatic and dtype in ("float32", "float") else dtype


def _packed_bytes(name: str, own: Mapping[str, Any]) -> float | None:
    """Return the bytes of one weight with its share of scales; None where nobody can say."""
    if name in _ONLINE and not own:
        return _ONLINE[name]
    bits, group = own.get("bits"), own.get("group_size") or own.get("q_group_size")
    if name == "compressed-tensors":
        groups = own.get("config_groups") or {}
        described = [item.get("weights") or {} for item in groups.values()]
        if not described:
            return None
        bits = max(item.get("num_bits") or 16 for item in described)
        group = min((item["group_size"] for item in described if item.get("group_size")), default=None)
    if name in ("fp8", "fbgemm_fp8", "modelopt"):
        bits, group = 8, 128
    if name in ("mxfp4", "gpt_oss_mxfp4"):
        return 0.5 + 1 / 32
    if name in ("modelopt_fp4", "nvfp4"):
        return 0.5 + 1 / 16
    if not bits:
        return None
    scales = (_SCALE_BYTES + bits / 8) / group if group and group > 0 else 0.0
    return float(bits) / 8 + scales
