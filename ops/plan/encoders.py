"""Models with an encoder: of texts, of speech and of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ops.plan.architecture import Architecture, CacheLayer, common, labels, padded
from ops.plan.decoders import Style, decoder

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST_IMAGE_TOKENS = 16384  # what vLLM profiles a Qwen2.5-VL's tower with


def encoder(name: str, config: Mapping[str, Any]) -> Architecture:
    """BERT and its descendants: no KV cache, every text is read once and at once."""
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    inner, heads = int(config["intermediate_size"]), int(config["num_attention_heads"])
    linear = layers * (4 * hidden * hidden + 2 * hidden * inner)
    small = layers * (4 * hidden + inner + hidden + 4 * hidden)
    tables = sum(
        padded(int(config[key])) for key in ("vocab_size", "max_position_embeddings", "type_vocab_size")
    )
    head_out = 0
    if config["classified"]:
        head_out = hidden * hidden + hidden + labels(config) * (hidden + 1)
    return Architecture(
        name=name,
        linear=linear,
        other=small + tables * hidden + 2 * hidden + head_out,
        active=linear + small + head_out,
        cache=(),
        heads=heads,
        kv_heads=heads,
        hidden=hidden,
        intermediate=inner,
        inner=inner,
        vocabulary=0,
        layers=layers,
        **common(config),
    )


def whisper(name: str, config: Mapping[str, Any]) -> Architecture:
    """Whisper: an encoder of sound, and a decoder whose every layer looks at the encoder's result too."""
    hidden, mels = int(config["d_model"]), int(config["num_mel_bins"])
    encoder, decoder = int(config["encoder_layers"]), int(config["decoder_layers"])
    heads = int(config["decoder_attention_heads"])
    attention, attention_bias = 4 * hidden * hidden, 3 * hidden  # keys have no bias
    inner = {side: 2 * hidden * int(config[f"{side}_ffn_dim"]) for side in ("encoder", "decoder")}
    small = {side: int(config[f"{side}_ffn_dim"]) + hidden for side in ("encoder", "decoder")}
    linear = encoder * (attention + inner["encoder"]) + decoder * (2 * attention + inner["decoder"])
    # vLLM keeps a bias of keys, filled with zeros, where they are packed with queries and values.
    packed_bias = attention_bias + hidden
    other = encoder * (packed_bias + small["encoder"] + 4 * hidden)
    other += decoder * (2 * packed_bias + small["decoder"] + 6 * hidden)
    other += 3 * mels * hidden + hidden + 3 * hidden * hidden + hidden
    positions = int(config["max_source_positions"])
    vocabulary = int(config["vocab_size"])
    other += (positions + int(config["max_target_positions"]) + vocabulary) * hidden + 4 * hidden
    head = 2 * hidden // heads
    layers = (CacheLayer("full", heads, head), CacheLayer("cross", heads, head))
    return Architecture(
        name=name,
        linear=linear,
        other=other,
        active=decoder * (2 * attention + inner["decoder"]) + vocabulary * hidden,
        cache=layers * decoder,
        heads=heads,
        kv_heads=heads,
        hidden=hidden,
        intermediate=int(config["decoder_ffn_dim"]),
        inner=math.gcd(int(config["encoder_ffn_dim"]), int(config["decoder_ffn_dim"])),
        vocabulary=vocabulary,
        layers=decoder,
        encoder_tokens=positions,
        encoder_width=_alive(hidden, int(config["encoder_ffn_dim"])),
        encoder_parameters=encoder * (attention + inner["encoder"]),
        **{**common(config), "max_positions": int(config["max_target_positions"])},
    )


def qwen_vision(name: str, config: Mapping[str, Any]) -> Architecture:
    """Qwen2.5-VL: a decoder of text, and a tower that turns patches of images into its tokens."""
    text = {**config, **(config.get("text_config") or {}), "classified": False}
    text["architectures"] = [name]
    base = decoder(Style(qkv_bias=True, output_bias=False))(name, text)
    vision = config["vision_config"]
    depth, width = int(vision["depth"]), int(vision["hidden_size"])
    inner, out = int(vision["intermediate_size"]), int(vision["out_hidden_size"])
    merged = width * int(vision.get("spatial_merge_size", 2)) ** 2
    patch = int(vision.get("in_channels", vision.get("in_chans", 3))) * int(vision.get("patch_size", 14)) ** 2
    linear = depth * (4 * width * width + 3 * width * inner) + merged * merged + merged * out
    small = depth * (4 * width + 2 * inner + width + 2 * width)
    small += patch * int(vision.get("temporal_patch_size", 2)) * width + width + merged + out
    return Architecture(
        **{
            **{key: getattr(base, key) for key in base.__dataclass_fields__},
            "linear": base.linear + linear,
            "other": base.other + small,
            "encoder_tokens": _LARGEST_IMAGE_TOKENS,
            "encoder_width": merged // width * _alive(width, inner),
        }
    )


def _alive(width: int, inner: int) -> int:
    """Return the numbers of one position of an encoder's layer at its peak, copies in 32 bits included."""
    return 3 * inner + 16 * width
