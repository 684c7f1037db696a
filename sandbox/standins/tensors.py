"""Writes and reads weights as safetensors, with what random weights are made of. Standard library only."""

from __future__ import annotations

import json
import math
import random
import struct
from array import array
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    Args:
        name: as the model's architecture calls it.
        shape: its dimensions.
        dtype: as safetensors names it: BF16, F16, F32, I32.
        data: its bytes, row by row.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: bytes


class Noise:
    """Makes tensors of repeatable random numbers: the same seed gives the same weights on every machine."""

    def __init__(self, seed: int, dtype: str = "BF16") -> None:
        self._generator = random.Random(seed)  # noqa: S311  # noise, nothing secret
        self._dtype = dtype

    def normal(self, scale: float, count: int) -> list[float]:
        """Return numbers around 0, of a standard deviation."""
        return [self._generator.gauss(0.0, scale) for _ in range(count)]

    def tensor(self, name: str, scale: float, *shape: int) -> Tensor:
        """Return a tensor of such numbers."""
        return self.of(name, self.normal(scale, math.prod(shape)), *shape)

    def filled(self, name: str, value: float, *shape: int) -> Tensor:
        """Return a tensor of one number."""
        return self.of(name, [value] * math.prod(shape), *shape)

    def of(self, name: str, values: list[float], *shape: int) -> Tensor:
        """Return a tensor of these numbers."""
        return Tensor(name, shape, self._dtype, packed(values, self._dtype))


def packed(values: list[float], dtype: str) -> bytes:
    """Return numbers in a format of safetensors."""
    if dtype == "BF16":  # the upper halves of 32-bit numbers
        halves = array("H")
        halves.frombytes(array("f", values).tobytes())
        return halves[1::2].tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    return array("f", values).tobytes()


def write(path: Path, tensors: Iterable[Tensor]) -> None:
    """Write a safetensors file."""
    kept = list(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in kept:
        start, end = end, end + len(tensor.data)
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.writelines(chain((struct.pack("<Q", len(encoded)), encoded), (tensor.data for tensor in kept)))
