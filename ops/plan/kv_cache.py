"""How vLLM divides memory into blocks of KV cache, and how many blocks a sequence takes.

After vLLM 0.32.0, v1/kv_cache_interface.py and v1/core/kv_cache_utils.py: layers of one kind are one group;
of several kinds, groups of equally many layers share one pool of blocks, each with a table of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.plan.architecture import Architecture, CacheLayer

BLOCK_TOKENS = 16
_UNEVEN = 1.5  # up to so much more layers of one kind than of another, the smaller group is padded


@dataclass(frozen=True)
class KvCache:
    """The cache of one GPU's share of a model.

    Attributes:
        groups: a layer of each group; a sequence takes blocks for every one of them.
        block_bytes: one block, for all layers of a group.
        block_tokens: tokens of a block.
        in_flight_tokens: the most that are scheduled and not yet done, which a window must hold too.
        encoder_tokens: of the encoder that cross-attention looks at.
    """

    groups: tuple[CacheLayer, ...]
    block_bytes: int
    block_tokens: int
    in_flight_tokens: int
    encoder_tokens: int

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        *,
        element_bytes: float,
        tensor_parallel_size: int,
        in_flight_tokens: int,
        block_tokens: int = BLOCK_TOKENS,
    ) -> KvCache:
        """Return the cache of one of `tensor_parallel_size` GPUs.

        Args:
            architecture: the model's.
            element_bytes: of one number in the cache.
            tensor_parallel_size: how many GPUs share the heads; where there are more GPUs than heads, each
                has one, and latent vectors are whole on each.
            in_flight_tokens: tokens of all batches that are at work at once.
            block_tokens: tokens of a block.
        """
        kinds = Counter(architecture.cache)
        fewest, most = min(kinds.values()), max(kinds.values())
        size = most if most < fewest * _UNEVEN else fewest
        groups = [layer for layer, count in kinds.items() for _ in range(math.ceil(count / size))]
        page = max(
            block_tokens * max(1, layer.kv_heads // tensor_parallel_size) * layer.head_size * element_bytes
            for layer in kinds
        )
        return cls(
            tuple(groups), int(size * page), block_tokens, in_flight_tokens, architecture.encoder_tokens
        )

    @property
    def token_bytes(self) -> float:
        """What one more token takes in all layers, where no window is full."""
        return self.block_bytes * len(self.groups) / self.block_tokens

    def blocks(self, tokens: int) -> int:
        """Return the blocks of one sequence of so many tokens."""
        return sum(self._blocks(layer, tokens) for layer in self.groups)

    def sequences(self, memory_bytes: float, tokens: int) -> float:
        """Return how many sequences of so many tokens fit into memory."""
        return self.pool(memory_bytes) / self.blocks(tokens)

    def pool(self, memory_bytes: float) -> int:
        """Return the blocks that memory is divided into."""
        return max(0, int(memory_bytes // self.block_bytes))

    def _blocks(self, layer: CacheLayer, tokens: int) -> int:
        if layer.kind == "cross":
            return math.ceil(self.encoder_tokens / self.block_tokens)
        if layer.kind == "sliding":
            kept = min(layer.window - 1 + self.in_flight_tokens, tokens)
            # One more, as a window may begin in the middle of a block.
            return math.ceil(kept / self.block_tokens) + 1
        return math.ceil(tokens / self.block_tokens)
