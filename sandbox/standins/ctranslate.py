"""Reads the weights of a file of CTranslate2 (binary format 6), and names them as Whisper's own checkpoint
does. Standard library only.

Source of the format: CTranslate2, python/ctranslate2/specs/model_spec.py.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from sandbox.standins.tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = 6
_FLOAT16 = 4
# What the parts of a layer are called there, and here; several here where they are one matrix there.
_NAMES = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    "ffn/layer_norm": ("final_layer_norm",),
    "layer_norm": ("layer_norm",),
    "conv1": ("conv1",),
    "conv2": ("conv2",),
}
_WHOLE = {
    "embeddings/weight": "embed_tokens.weight",
    "position_encodings/encodings": "embed_positions.weight",
}
_ENDS = {"beta": "bias", "gamma": "weight"}
_PATH = re.compile(r"(?P<side>encoder|decoder)/(?:layer_(?P<layer>\d+)/)?(?P<rest>.+)")


def whisper(content: bytes) -> Iterator[Tensor]:
    """Yield the tensors of a Whisper.

    Args:
        content: a file `model.bin` with numbers in half precision.

    Raises:
        ValueError: the file is of another format, model or precision.
    """
    for tensor in _read(content):
        match = _PATH.fullmatch(tensor.name)
        if match is None:
            raise ValueError(f"a Whisper has no {tensor.name}")
        layer = f"layers.{match['layer']}." if match["layer"] else ""
        prefix = f"model.{match['side']}.{layer}"
        if match["rest"] in _WHOLE:
            yield Tensor(f"{prefix}{_WHOLE[match['rest']]}", tensor.shape, tensor.dtype, tensor.data)
            continue
        part, _, end = match["rest"].rpartition("/")
        names = _NAMES[part]
        rows, size = tensor.shape[0] // len(names), len(tensor.data) // len(names)
        for index, name in enumerate(names):
            # The keys of attention have no bias in Whisper; here it is there, as zeros.
            yield Tensor(
                f"{prefix}{name}.{_ENDS.get(end, end)}",
                (rows, *tensor.shape[1:]),
                tensor.dtype,
                tensor.data[index * size : (index + 1) * size],
            )


def _read(content: bytes) -> Iterator[Tensor]:
    """Yield the tensors of a file, without its switches and numbers."""
    at = 0

    def number(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", content, at)
        at += struct.calcsize(f"<{kind}")
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return content[at - size : at].rstrip(b"\0").decode()

    version = number("I")
    if version != _FORMAT:
        raise ValueError(f"it is of CTranslate2's format {version}, not {_FORMAT}")
    model, _revision = text(), number("I")
    if model != "WhisperSpec":
        raise ValueError(f"it is a {model}, not a WhisperSpec")
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        kind, size = number("B"), number("I")
        at += size
        if not shape:
            continue
        if kind != _FLOAT16:
            raise ValueError(f"{name} is not in half precision")
        yield Tensor(name, shape, "F16", content[at - size : at])
