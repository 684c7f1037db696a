"""Makes a tiny Qwen2.5-VL with random weights, which answers to images and text. Standard library only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sandbox.standins import decoder, tensors, words

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.standins.tensors import Noise, Tensor

_HIDDEN, _INTERMEDIATE, _DEPTH, _HEADS = 64, 128, 2, 2
_PATCH, _MERGE, _FRAMES = 14, 2, 2
# The real one takes up to 16,384 tokens for an image, which a CPU would work at for minutes.
_MOST_PIXELS = 512 * (_PATCH * _MERGE) ** 2
_SEED = 20250103
_START, _END, _IMAGE, _VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
_CONTENT = (
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
)


def write(directory: Path) -> None:
    """Write the model."""
    special = (decoder.END, decoder.START_OF_TURN, decoder.END_OF_TURN, _START, _END, _IMAGE, _VIDEO)
    tokenizer, vocabulary = words.byte_pairs(special)
    config = decoder.qwen2_config(vocabulary) | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "vision_start_token_id": vocabulary[_START],
        "vision_end_token_id": vocabulary[_END],
        "image_token_id": vocabulary[_IMAGE],
        "video_token_id": vocabulary[_VIDEO],
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": _DEPTH,
            "hidden_size": _HIDDEN,
            "intermediate_size": _INTERMEDIATE,
            "num_heads": _HEADS,
            "out_hidden_size": decoder.HIDDEN,
            "patch_size": _PATCH,
            "spatial_patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": _FRAMES,
            "window_size": 112,
            "fullatt_block_indexes": [_DEPTH - 1],
            "hidden_act": "silu",
            "in_chans": 3,
            "tokens_per_second": 2,
        },
    }
    decoder.write_files(directory, config, tokenizer, vocabulary, decoder.chat_template(_CONTENT))
    (directory / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor",
                "min_pixels": 4 * (_PATCH * _MERGE) ** 2,
                "max_pixels": _MOST_PIXELS,
                "patch_size": _PATCH,
                "temporal_patch_size": _FRAMES,
                "merge_size": _MERGE,
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
            },
            indent=1,
        )
        + "\n"
    )
    noise = tensors.Noise(_SEED)
    tensors.write(
        directory / "model.safetensors",
        [
            *decoder.body(noise, vocabulary),
            decoder.output_layer(noise, vocabulary),
            *_tower(noise),
        ],
    )


def _tower(noise: Noise) -> list[Tensor]:
    merged = _HIDDEN * _MERGE**2
    found = [
        noise.tensor("visual.patch_embed.proj.weight", 0.03, _HIDDEN, 3, _FRAMES, _PATCH, _PATCH),
        noise.filled("visual.merger.ln_q.weight", 1.0, _HIDDEN),
        *_linear(noise, "visual.merger.mlp.0", merged, merged),
        *_linear(noise, "visual.merger.mlp.2", decoder.HIDDEN, merged),
    ]
    for index in range(_DEPTH):
        block = f"visual.blocks.{index}"
        found += [noise.filled(f"{block}.{norm}.weight", 1.0, _HIDDEN) for norm in ("norm1", "norm2")]
        found += _linear(noise, f"{block}.attn.qkv", 3 * _HIDDEN, _HIDDEN)
        found += _linear(noise, f"{block}.attn.proj", _HIDDEN, _HIDDEN)
        found += _linear(noise, f"{block}.mlp.gate_proj", _INTERMEDIATE, _HIDDEN)
        found += _linear(noise, f"{block}.mlp.up_proj", _INTERMEDIATE, _HIDDEN)
        found += _linear(noise, f"{block}.mlp.down_proj", _HIDDEN, _INTERMEDIATE)
    return found


def _linear(noise: Noise, name: str, outputs: int, inputs: int) -> list[Tensor]:
    return [
        noise.tensor(f"{name}.weight", inputs**-0.5, outputs, inputs),
        noise.filled(f"{name}.bias", 0.0, outputs),
    ]
