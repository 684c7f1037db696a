"""What each quantization needs of a GPU, and the number formats that vLLM computes in with it.

Source: vLLM 0.32.0, `get_min_capability` and `get_supported_act_dtypes` of the classes in
model_executor/layers/quantization; a test asks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantization = Literal[
    "awq",
    "awq_marlin",
    "gptq",
    "gptq_marlin",
    "fp8",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "torchao",
    "fp8_per_tensor",
    "int8_per_channel_weight_only",
]
"""vLLM's names. The last two quantize while weights load, as bitsandbytes did, which vLLM no longer has."""

_HALF = ("bfloat16", "float16")
_ALL = (*_HALF, "float32")


@dataclass(frozen=True)
class Needs:
    """What one quantization needs.

    Attributes:
        capability: the lowest compute capability that vLLM starts with, as (major, minor).
        dtypes: what activations may be stored in.
        native_capability: the lowest one that multiplies in the format, where the format is of activations
            too: below it, vLLM would only keep the weights in it, and say so in a line of its log.
    """

    capability: tuple[int, int]
    dtypes: tuple[str, ...] = _HALF
    native_capability: tuple[int, int] | None = None

    @property
    def least_capability(self) -> tuple[int, int]:
        """The lowest compute capability with which the quantization does what it is chosen for."""
        return max(self.capability, self.native_capability or self.capability)


_FP8_CAPABILITY = (8, 9)
NEEDS: dict[Quantization, Needs] = {
    "awq": Needs((7, 5)),
    "awq_marlin": Needs((7, 5)),
    "gptq": Needs((6, 0)),
    "gptq_marlin": Needs((6, 0)),
    "fp8": Needs((7, 5), native_capability=_FP8_CAPABILITY),
    "compressed-tensors": Needs((7, 0), _ALL),
    "modelopt": Needs((8, 0), native_capability=_FP8_CAPABILITY),
    "modelopt_fp4": Needs((7, 5)),
    "mxfp4": Needs((8, 0), ("bfloat16",)),
    "torchao": Needs((7, 5), _ALL),
    "fp8_per_tensor": Needs((7, 5), native_capability=_FP8_CAPABILITY),
    "int8_per_channel_weight_only": Needs((7, 5)),
}
