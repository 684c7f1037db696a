"""Makes a LoRA adapter of random weights for the stand-ins of a decoder. Standard library only."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from sandbox.standins import decoder, tensors

if TYPE_CHECKING:
    from pathlib import Path

_RANK, _ALPHA = 8, 16


def write(directory: Path, name: str, base: str) -> None:
    """Write an adapter.

    Args:
        directory: where to.
        name: its name on the hub: another name is another adapter.
        base: the name of its base model.
    """
    (directory / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": base,
                "r": _RANK,
                "lora_alpha": _ALPHA,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": ["q_proj", "v_proj"],
            },
            indent=1,
        )
        + "\n"
    )
    noise = tensors.Noise(zlib.crc32(name.encode()), "F32")
    weights = []
    for layer in range(decoder.LAYERS):
        for part, heads in (("q", decoder.HEADS), ("v", decoder.KEY_VALUE_HEADS)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{part}_proj"
            weights += [
                noise.tensor(f"{prefix}.lora_A.weight", decoder.HIDDEN**-0.5, _RANK, decoder.HIDDEN),
                noise.tensor(f"{prefix}.lora_B.weight", 0.1, heads * decoder.HEAD, _RANK),
            ]
    tensors.write(directory / "adapter_model.safetensors", weights)
