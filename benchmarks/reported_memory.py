"""What vLLM itself says of a model's memory, for shapes without weights: parameters, blocks, sequences.

    python benchmarks/reported_memory.py benchmarks/model_shapes.json qwen2 mixtral

Runs in vLLM's environment. Writes a line of JSON for each shape: what the engine has built and divided, not
what anybody computed. On a GPU, give `--gpu`: then memory is profiled there, as a server does it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

KV_CACHE_BYTES = 2**30
MAX_MODEL_LEN = 512
MAX_BATCHED_TOKENS = 512
BLOCK_TOKENS = 32  # what attention on a CPU works with; latent attention sets 16 itself


def _engine(folder: str, options: dict[str, Any]) -> Any:
    from vllm import EngineArgs  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.v1.engine.llm_engine import LLMEngine  # type: ignore[import-not-found]  # noqa: PLC0415

    return LLMEngine.from_engine_args(EngineArgs(model=folder, **options))


def _parameters_alone(folder: str) -> int:
    """Count without an engine: one of speech wants a processor's files, which no configuration has."""
    import torch  # noqa: PLC0415
    from vllm import EngineArgs  # noqa: PLC0415
    from vllm.config import set_current_vllm_config  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.distributed import parallel_state  # type: ignore[import-not-found]  # noqa: PLC0415
    from vllm.model_executor.model_loader.utils import initialize_model  # type: ignore[import-not-found]  # noqa: PLC0415

    config = EngineArgs(
        model=folder, load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, dtype="bfloat16"
    ).create_engine_config()
    with set_current_vllm_config(config):
        if not parallel_state.model_parallel_is_initialized():
            parallel_state.init_distributed_environment(1, 0, f"file://{folder}/rendezvous", 0, "gloo")
            parallel_state.initialize_model_parallel(1, 1)
        with torch.device("meta"):
            model = initialize_model(vllm_config=config)
    return sum(parameter.numel() for parameter in model.parameters())


def _count_parameters() -> list[int]:
    """Have the loader write down each model's parameters before a CPU's kernels pack them."""
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader  # type: ignore[import-not-found]  # noqa: PLC0415

    counts: list[int] = []
    load = DummyModelLoader.load_weights

    def counting(self: Any, model: Any, model_config: Any) -> None:
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
        load(self, model, model_config)

    DummyModelLoader.load_weights = counting
    return counts


def _memory(worker: Any) -> dict[str, int]:
    """Return what a GPU's worker has measured, in bytes."""
    return {
        "total_bytes": worker.init_snapshot.total_memory,
        "weights_bytes": int(worker.model_runner.model_memory_usage),
        "activations_and_graphs_bytes": int(worker.peak_activation_memory),
        "graphs_bytes": int(worker.cudagraph_memory_estimate),
        "cache_bytes": int(worker.available_kv_cache_memory_bytes),
    }


def report(config: dict[str, Any], *, on_gpu: bool) -> dict[str, Any]:
    """Return what vLLM says of one shape."""
    pooling = "CausalLM" not in config["architectures"][0] and "Conditional" not in config["architectures"][0]
    options: dict[str, Any] = {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "runner": "pooling" if pooling else "generate",
    }
    if not on_gpu:
        options |= {
            "max_model_len": min(MAX_MODEL_LEN, config.get("max_position_embeddings", MAX_MODEL_LEN)),
            "max_num_batched_tokens": MAX_BATCHED_TOKENS,
            "max_num_seqs": 16,
            "enforce_eager": True,
            "dtype": "bfloat16",
            "block_size": BLOCK_TOKENS,
        }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        if config["architectures"][0].startswith("Whisper"):
            return {"parameters": _parameters_alone(folder)}
        counts = _count_parameters()
        engine = _engine(folder, options)
    core = engine.engine_core.engine_core
    cache = core.scheduler.kv_cache_config
    groups = list(cache.kv_cache_groups)
    from vllm.v1.core.kv_cache_utils import get_max_concurrency_for_kv_cache_config  # type: ignore[import-not-found]  # noqa: PLC0415

    found = {
        "parameters": counts[0],
        "groups": len(groups),
        "block_tokens": groups[0].kv_cache_spec.block_size if groups else None,
        "blocks": cache.num_blocks,
        "block_bytes": max((tensor.size for tensor in cache.kv_cache_tensors), default=0) // cache.num_blocks,
        "in_flight_tokens": core.vllm_config.max_in_flight_tokens,
        "sequences": get_max_concurrency_for_kv_cache_config(core.vllm_config, cache) if groups else None,
    }
    if on_gpu:
        found |= core.model_executor.collective_rpc(_memory)[0]
    engine.engine_core.shutdown()
    return found


def main() -> int:
    """Report on the shapes that are named."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(KV_CACHE_BYTES // 2**30)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    on_gpu = "--gpu" in sys.argv
    path, *names = [argument for argument in sys.argv[1:] if argument != "--gpu"]
    shapes = json.loads(Path(path).read_text())
    for name in names or shapes:
        print(json.dumps({"shape": name, **report(shapes[name], on_gpu=on_gpu)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
