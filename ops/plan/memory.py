"""Whether a model fits a GPU, and how many sequences fit beside it.

Weights and cache are counted (`ops/plan/architecture.py`, `ops/plan/kv_cache.py`). Activations and what CUDA
and NCCL keep for themselves are estimated, on the large side, and `MARGIN` of all that is not cache is added:
a model that is said to fit does; one that is said not to may, by that margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.plan.kv_cache import KvCache

if TYPE_CHECKING:
    from ops.plan.architecture import Architecture
    from ops.plan.gpus import Gpu
    from ops.plan.weights import Weights

GIB = 2**30
MARGIN = 0.05
"""Added to weights, activations, graphs and overhead."""

_CONTEXT_GIB = 0.35  # cuBLAS, kernels and the allocator's slack after the engine's first look at free memory
_PARALLEL_GIB = 1.0  # NCCL's and the all-reduce's buffers on each of several GPUs
_OUTSIDE_GIB = 0.6  # CUDA's context, which must be free beside what gpu_memory_utilization asks for
_GRAPH_BYTES = 0.64 * 2**20  # of one captured batch size in one layer: benchmarks/results/gpu, cold_start
_LARGEST_GRAPH = 512
_LOGIT_BYTES = 12  # of one logit: itself, in float32, its probability, and the sampler's copy
_ASYNC_BATCHES = 2  # the next batch is scheduled while one is at work
_LORA_TARGETS = 7


@dataclass(frozen=True)
class Demand:
    """What the stack file asks of a GPU.

    Attributes:
        architecture: the model's.
        weights: its weights' size.
        activation_bytes: of one number that goes from layer to layer.
        cache_bytes: of one number in the KV cache.
        max_model_len: tokens of the longest sequence.
        gpu_memory_utilization: the share of a GPU's memory that vLLM may take.
        max_num_seqs, max_num_batched_tokens: as set; None takes vLLM's default for the GPU.
        enforce_eager: no CUDA graphs.
        adapters: LoRA adapters on the GPU at once.
        adapter_rank: the highest of their ranks.
    """

    architecture: Architecture
    weights: Weights
    activation_bytes: int
    cache_bytes: float
    max_model_len: int
    gpu_memory_utilization: float
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    enforce_eager: bool
    adapters: int = 0
    adapter_rank: int = 0

    def batch(self, gpu: Gpu) -> tuple[int, int]:
        """Return the sequences and the tokens of a batch on a GPU.

        vLLM 0.32.0's defaults for its server: engine/arg_utils.py, get_batch_defaults. A text that is read at
        once, without a cache, needs a batch as long as itself.
        """
        if gpu.memory_gib >= 160:
            tokens, sequences = 16384, 1024
        elif gpu.memory_gib >= 70 and not gpu.name.startswith("A100"):
            tokens, sequences = 8192, 1024
        else:
            tokens, sequences = 2048, 256
        sequences = self.max_num_seqs or sequences
        tokens = self.max_num_batched_tokens or max(tokens, sequences)
        if not self.architecture.is_decoder:
            tokens = max(tokens, self.max_model_len)
        return min(sequences, tokens), tokens


@dataclass(frozen=True)
class Fit:
    """How a model lies in one GPU of several.

    Attributes:
        gpu: the GPU.
        tensor_parallel_size: GPUs of one replica.
        problem: why it does not fit; empty if it does.
        usable_bytes: of the GPU's memory, by gpu_memory_utilization.
        weights_bytes, activations_bytes, graphs_bytes, overhead_bytes, margin_bytes: of one GPU.
        cache_bytes: what is left for the KV cache; below zero if nothing is.
        token_bytes: one token in the KV cache of one GPU.
        cache_tokens: tokens that all sequences may have together, in sequences of max_model_len.
        sequences_at_max: sequences of max_model_len tokens at once; None without a cache.
        batch_sequences: sequences of a batch, by the settings.
    """

    gpu: Gpu
    tensor_parallel_size: int
    problem: str
    usable_bytes: float
    weights_bytes: float
    activations_bytes: float
    graphs_bytes: float
    overhead_bytes: float
    margin_bytes: float
    cache_bytes: float
    token_bytes: float
    cache_tokens: int
    sequences_at_max: float | None
    batch_sequences: int
    cache: KvCache | None

    @property
    def fits(self) -> bool:
        """Whether vLLM starts with it."""
        return not self.problem

    def room(self, tokens: int) -> int:
        """Return how many sequences of so many tokens are at work at once."""
        if self.cache is None or not self.fits:
            return self.batch_sequences if self.fits else 0
        return min(self.batch_sequences, int(self.cache.sequences(self.cache_bytes, tokens)))


def fit(demand: Demand, gpu: Gpu, tensor_parallel_size: int) -> Fit:
    """Return how one replica of the model lies in so many of these GPUs."""
    architecture, parallel = demand.architecture, tensor_parallel_size
    sequences, tokens = demand.batch(gpu)
    usable = gpu.memory_bytes * demand.gpu_memory_utilization
    weights = demand.weights.of_one_gpu(parallel) + _adapters(demand) / parallel
    activations = _activations(demand, sequences, tokens, parallel)
    graphs = 0.0 if demand.enforce_eager else _graphs(demand, sequences)
    overhead = (_CONTEXT_GIB + (_PARALLEL_GIB if parallel > 1 else 0.0)) * GIB
    margin = MARGIN * (weights + activations + graphs + overhead)
    left = usable - weights - activations - graphs - overhead - margin
    cache = None
    if architecture.is_decoder:
        cache = KvCache.of(
            architecture,
            element_bytes=demand.cache_bytes,
            tensor_parallel_size=parallel,
            in_flight_tokens=_ASYNC_BATCHES * tokens,
        )
    at_max = cache.sequences(left, demand.max_model_len) if cache else None
    return Fit(
        gpu=gpu,
        tensor_parallel_size=parallel,
        problem=_problem(demand, gpu, parallel, left, at_max, cache),
        usable_bytes=usable,
        weights_bytes=weights,
        activations_bytes=activations,
        graphs_bytes=graphs,
        overhead_bytes=overhead,
        margin_bytes=margin,
        cache_bytes=left,
        token_bytes=cache.token_bytes if cache else 0.0,
        cache_tokens=int((at_max or 0) * demand.max_model_len),
        sequences_at_max=at_max,
        batch_sequences=sequences,
        cache=cache,
    )


def _problem(
    demand: Demand, gpu: Gpu, parallel: int, left: float, at_max: float | None, cache: KvCache | None
) -> str:
    architecture = demand.architecture
    if not architecture.can_be_split(parallel):
        return f"heads ({architecture.heads}) or inner layers cannot be divided among {parallel} GPUs"
    reason = demand.weights.refused_by(gpu)
    if reason:
        return reason
    outside = gpu.memory_bytes * (1 - demand.gpu_memory_utilization) / GIB
    if outside < _OUTSIDE_GIB:
        return (
            f"gpu_memory_utilization {demand.gpu_memory_utilization} leaves {outside:.1f} GiB of {gpu.name}: "
            f"CUDA itself takes {_OUTSIDE_GIB}"
        )
    if left <= 0:
        return f"weights and activations are {-left / GIB:.1f} GiB more than the GPU has for them"
    if cache is not None and at_max is not None and at_max < 1:
        short = cache.blocks(demand.max_model_len) * cache.block_bytes - left
        return f"one sequence of {demand.max_model_len} tokens lacks {short / GIB:.1f} GiB of KV cache"
    return ""


def _activations(demand: Demand, sequences: int, tokens: int, parallel: int) -> float:
    """The most that is alive at once: inner layers and residuals while a batch is read, then logits."""
    architecture = demand.architecture
    widest = max(3 * architecture.intermediate, 4 * architecture.hidden) / parallel
    of_layers = tokens * (widest + 4 * architecture.hidden)
    # What the encoder of images or speech reads is profiled at its largest, and as much as a batch has.
    encoded = max(tokens, architecture.encoder_tokens) * architecture.encoder_width
    of_logits = sequences * architecture.vocabulary * _LOGIT_BYTES
    return max(max(of_layers, encoded) * demand.activation_bytes, of_logits)


def _graphs(demand: Demand, sequences: int) -> float:
    largest = min(2 * sequences, _LARGEST_GRAPH)
    # 1, 2, 4, then every eighth, and above 256 every sixteenth.
    sizes = 3 + math.ceil(min(largest, 256) / 8) + max(0, (largest - 256) // 16)
    return sizes * demand.architecture.layers * _GRAPH_BYTES


def _adapters(demand: Demand) -> float:
    """Two thin matrices beside each of a layer's, for every adapter that has a place."""
    architecture = demand.architecture
    width = 4 * architecture.hidden + 3 * (architecture.hidden + architecture.intermediate)
    parameters = architecture.layers * demand.adapter_rank * (width + _LORA_TARGETS * architecture.hidden)
    return demand.adapters * parameters * demand.activation_bytes
