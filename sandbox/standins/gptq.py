"""Quantises the layers of a stand-in to 4 bits, in the format of GPTQ checkpoints. Standard library only."""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any

from sandbox.standins.tensors import Tensor, packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BITS, _GROUP = 4, 128
_PER_WORD = 32 // _BITS
_MIDDLE = 2 ** (_BITS - 1)
CONFIG: dict[str, Any] = {
    "quant_method": "gptq",
    "bits": _BITS,
    "group_size": _GROUP,
    "sym": True,
    "desc_act": False,
    "true_sequential": True,
    "damp_percent": 0.1,
}
"""What config.json of such a checkpoint says, with the values that CodeLlama's have."""


def quantised(weights: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the weights of a decoder with those of its layers' linear parts in 4 bits; theirs must be F16."""
    for tensor in weights:
        if "_proj.weight" in tensor.name:
            yield from _quantised(tensor)
        else:
            yield tensor


def _quantised(tensor: Tensor) -> Iterator[Tensor]:
    """Yield what GPTQ stores for a matrix: packed along its inputs, with a scale for each group of them."""
    outputs, inputs = tensor.shape
    values = struct.unpack(f"<{outputs * inputs}e", tensor.data)
    groups = inputs // _GROUP
    name = tensor.name.removesuffix(".weight")
    scales = [[0.0] * outputs for _ in range(groups)]
    words = [[0] * outputs for _ in range(inputs // _PER_WORD)]
    for output in range(outputs):
        row = values[output * inputs : (output + 1) * inputs]
        for group in range(groups):
            part = row[group * _GROUP : (group + 1) * _GROUP]
            scales[group][output] = max(map(abs, part)) / (_MIDDLE - 1)
        for index, value in enumerate(row):
            level = round(value / scales[index // _GROUP][output]) + _MIDDLE
            words[index // _PER_WORD][output] |= level << _BITS * (index % _PER_WORD)
    # A zero point of 8, kept as 7: the format stores one less.
    zero = sum((_MIDDLE - 1) << _BITS * index for index in range(_PER_WORD))
    yield _integers(f"{name}.qweight", [word for line in words for word in line], len(words), outputs)
    yield _integers(f"{name}.qzeros", [zero] * (groups * outputs // _PER_WORD), groups, outputs // _PER_WORD)
    flat = [scale for line in scales for scale in line]
    yield Tensor(f"{name}.scales", (groups, outputs), "F16", packed(flat, "F16"))
    yield _integers(f"{name}.g_idx", [index // _GROUP for index in range(inputs)], inputs)


def _integers(name: str, values: list[int], *shape: int) -> Tensor:
    return Tensor(name, shape, "I32", array("I", values).tobytes())
