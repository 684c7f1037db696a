"""Decoders of text: counts their parameters from a configuration, and their layers with a KV cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.plan.architecture import Architecture, CacheLayer, common, labels, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Style:
    """How families of decoders differ.

    Attributes:
        qkv_bias, output_bias: of the attention; None takes `attention_bias` of the configuration.
        head_norms: norms of a head's queries and keys.
        norms: norms of a layer.
        tied: whether input and output embeddings are one where the configuration does not say.
        sinks: whether each head has one number more.
    """

    qkv_bias: bool | None = None
    output_bias: bool | None = None
    head_norms: bool = False
    norms: int = 2
    tied: bool = False
    sinks: bool = False


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _cache_layers(config: Mapping[str, Any], kv_heads: int, head_size: int) -> tuple[CacheLayer, ...]:
    layers = int(config["num_hidden_layers"])
    window = config.get("sliding_window")
    full = CacheLayer("full", kv_heads, 2 * head_size)
    if not window or config.get("use_sliding_window") is False:
        return (full,) * layers
    sliding = CacheLayer("sliding", kv_heads, 2 * head_size, int(window))
    kinds = config.get("layer_types")
    every = config.get("sliding_window_pattern")
    if kinds:
        return tuple(sliding if kind == "sliding_attention" else full for kind in kinds)
    if every:
        return tuple(full if (index + 1) % every == 0 else sliding for index in range(layers))
    if config["architectures"][0] == "MistralForCausalLM":
        return (sliding,) * layers
    # Whichever layers have the window, all with the whole context is the most that they can keep.
    return (full,) * layers


def decoder(style: Style) -> Callable[[str, Mapping[str, Any]], Architecture]:
    """Return what counts a family of decoders."""

    def count(name: str, config: Mapping[str, Any]) -> Architecture:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads = int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head = _head_size(config)
        bias = bool(config.get("attention_bias"))
        qkv_bias = bias if style.qkv_bias is None else style.qkv_bias
        output_bias = bias if style.output_bias is None else style.output_bias
        attention = hidden * head * (heads + 2 * kv_heads) + heads * head * hidden
        small = style.norms * hidden
        small += (heads + 2 * kv_heads) * head * qkv_bias + hidden * output_bias
        small += 2 * head * style.head_norms + heads * style.sinks
        mlps, active_mlps, mlp_other = _feed_forward(config, hidden, layers)
        vocabulary = padded(int(config["vocab_size"]))
        tied = bool(config.get("tie_word_embeddings", style.tied))
        classified = bool(config["classified"])
        head_out = labels(config) * hidden if classified else (0 if tied else vocabulary * hidden)
        linear = layers * attention + mlps
        other = layers * small + mlp_other + vocabulary * hidden + hidden + head_out
        # A token passes the output's matrix, and takes one row of the input's.
        read = layers * (attention + small) + active_mlps + mlp_other
        return Architecture(
            name=name,
            linear=linear,
            other=other,
            active=read + (head_out or vocabulary * hidden),
            cache=_cache_layers(config, kv_heads, head),
            heads=heads,
            kv_heads=kv_heads,
            hidden=hidden,
            intermediate=_widest(config),
            inner=_inner(config),
            vocabulary=0 if classified else vocabulary,
            layers=layers,
            **common(config),
        )

    return count


def _experts(config: Mapping[str, Any]) -> int:
    for key in ("num_local_experts", "num_experts", "n_routed_experts"):
        if config.get(key):
            return int(config[key])
    return 0


def _widest(config: Mapping[str, Any]) -> int:
    chosen = int(config.get("num_experts_per_tok") or 0)
    routed = int(config.get("moe_intermediate_size") or config.get("intermediate_size") or 0)
    dense = int(config.get("intermediate_size") or 0)
    return max(dense, chosen * routed) if _experts(config) else dense


def _inner(config: Mapping[str, Any]) -> int:
    keys = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
    return math.gcd(*(int(config.get(key) or 0) for key in keys))


def _feed_forward(config: Mapping[str, Any], hidden: int, layers: int) -> tuple[int, int, int]:
    """Return the parameters of all inner layers: those packed, those of one token, and those never packed."""
    experts = _experts(config)
    dense = 3 * hidden * int(config["intermediate_size"])
    if not experts:
        bias = bool(config.get("mlp_bias"))
        return (
            layers * dense,
            layers * dense,
            layers * bias * (2 * int(config["intermediate_size"]) + hidden),
        )
    routed = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    expert = 3 * hidden * routed
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    shared = 3 * hidden * (shared or int(config.get("n_shared_experts") or 0) * routed)
    first = int(config.get("first_k_dense_replace") or 0)
    without = {index for index in config.get("mlp_only_layers") or () if index < layers}
    step = int(config.get("decoder_sparse_step") or 1)
    sparse = sum(
        index >= first and index not in without and (index + 1) % step == 0 for index in range(layers)
    )
    router = hidden * experts + hidden * ("shared_expert_intermediate_size" in config)
    router += experts * (config.get("topk_method") == "noaux_tc")
    biases = 0
    if config.get("model_type") == "gpt_oss":
        router += experts
        biases = experts * (2 * routed + hidden)
    chosen = int(config["num_experts_per_tok"])
    packed = sparse * (experts * expert + shared) + (layers - sparse) * dense
    active = sparse * (chosen * expert + shared) + (layers - sparse) * dense
    return packed, active, sparse * (router + biases)


def latent_decoder(name: str, config: Mapping[str, Any]) -> Architecture:
    """DeepSeek's multi-head latent attention: one compressed vector of a token for all heads."""
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    nope, rope, value = (int(config[key]) for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    rank, query_rank = int(config["kv_lora_rank"]), int(config.get("q_lora_rank") or 0)
    query = heads * (nope + rope)
    attention = hidden * (rank + rope) + rank * heads * (nope + value) + heads * value * hidden
    attention += query_rank * (hidden + query) if query_rank else hidden * query
    small = 2 * hidden + rank + query_rank
    mlps, active_mlps, mlp_other = _feed_forward(config, hidden, layers)
    vocabulary = padded(int(config["vocab_size"]))
    head_out = 0 if config.get("tie_word_embeddings") else vocabulary * hidden
    read = layers * (attention + small) + active_mlps + mlp_other
    return Architecture(
        name=name,
        linear=layers * attention + mlps,
        other=layers * small + mlp_other + vocabulary * hidden + hidden + head_out,
        active=read + (head_out or vocabulary * hidden),
        cache=(CacheLayer("latent", 1, rank + rope),) * layers,
        heads=heads,
        kv_heads=0,
        hidden=hidden,
        intermediate=_widest(config),
        inner=_inner(config),
        vocabulary=vocabulary,
        layers=layers,
        **common(config),
    )
