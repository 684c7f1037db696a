"""A model as far as its memory and its speed depend on it: parameters, and layers that keep a KV cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

CacheKind = Literal["full", "sliding", "latent", "cross"]
VOCABULARY_PADDING = 64


@dataclass(frozen=True)
class CacheLayer:
    """What one attention layer keeps of a token.

    Attributes:
        kind: `full` for all tokens, `sliding` for those in a window, `latent` for multi-head latent attention
            (one vector for all heads), `cross` for a decoder's view of its encoder.
        kv_heads: heads of keys and values.
        head_size: numbers of a head, of keys and values together.
        window: tokens of the window.
    """

    kind: CacheKind
    kv_heads: int
    head_size: int
    window: int = 0


@dataclass(frozen=True)
class Architecture:
    """A model as far as memory and speed depend on it.

    Attributes:
        name: the class in `architectures`.
        linear: parameters of matrices that quantization packs.
        other: embeddings, norms, biases, routers and whatever keeps its number format.
        active: parameters that one token passes through; fewer than all with experts.
        cache: the layers with a KV cache; none in an encoder.
        heads: attention heads.
        kv_heads: heads of keys and values; 0 where they are one latent vector.
        hidden: the width of the residual stream.
        intermediate: the widest inner layer of one token.
        inner: what the sizes of inner layers have in common, which each GPU gets an equal share of.
        vocabulary: how many tokens logits are computed for; 0 without a language model's head.
        layers: of the decoder, or of the encoder where there is no decoder.
        encoder_tokens: positions of the encoder of speech, or of the largest image.
        encoder_width: numbers alive for each of them while they are encoded.
        encoder_parameters: what each of them passes through, where every request has so many; an image's
            are counted in its prompt.
        dtype: the number format of the checkpoint.
        max_positions: the longest context that the model was made for; 0 where it says none.
        quantization: its own `quantization_config`.
        stretched: whether its positions are scaled, so that longer contexts are allowed.
    """

    name: str
    linear: int
    other: int
    active: int
    cache: tuple[CacheLayer, ...]
    heads: int
    kv_heads: int
    hidden: int
    intermediate: int
    inner: int
    vocabulary: int
    layers: int
    encoder_tokens: int = 0
    encoder_width: int = 0
    encoder_parameters: int = 0
    dtype: str = "float32"
    max_positions: int = 0
    quantization: Mapping[str, Any] = field(default_factory=dict)
    stretched: bool = False

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear + self.other

    @property
    def is_decoder(self) -> bool:
        """Whether it keeps a KV cache."""
        return bool(self.cache)

    def can_be_split(self, tensor_parallel_size: int) -> bool:
        """Whether vLLM can divide its heads and its inner layers among so many GPUs."""
        if self.heads % tensor_parallel_size or self.inner % tensor_parallel_size:
            return False
        group = self.quantization.get("group_size") or self.quantization.get("q_group_size") or 0
        if group > 0 and self.inner // tensor_parallel_size % group:
            return False  # a GPU's share would end within a group of weights that have one scale
        kv = self.kv_heads
        return not kv or kv % tensor_parallel_size == 0 or tensor_parallel_size % kv == 0


def padded(vocabulary: int) -> int:
    """Return the rows of a table of embeddings as vLLM makes it."""
    return math.ceil(vocabulary / VOCABULARY_PADDING) * VOCABULARY_PADDING


def labels(config: Mapping[str, Any]) -> int:
    """Return how many classes a classifier has."""
    if "num_labels" in config:
        return int(config["num_labels"])
    return len(config["id2label"]) if config.get("id2label") else 2


def common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every kind of model says in the same words."""
    return {
        "dtype": str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        "max_positions": int(config.get("max_position_embeddings") or 0),
        "quantization": config.get("quantization_config") or {},
        "stretched": bool(config.get("rope_scaling")),
    }
