"""The estimates of `berth plan` against what vLLM builds and divides, and against published figures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.plan import counting, gpus, throughput, weights
from ops.plan.kv_cache import KvCache
from ops.plan.memory import GIB, Demand, fit
from sandbox import vllm

ROOT = Path(__file__).resolve().parents[2]
SHAPES: dict[str, dict[str, Any]] = json.loads((ROOT / "benchmarks" / "model_shapes.json").read_text())
KNOWN: dict[str, dict[str, Any]] = json.loads((ROOT / "ops" / "plan" / "models.json").read_text())
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
CACHE_BYTES = 2**30
MAX_MODEL_LEN = 512


@pytest.fixture(scope="module")
def reported() -> dict[str, dict[str, Any]]:
    """What vLLM says of every shape; one process asks about all of them."""
    done = subprocess.run(
        [
            vllm.ensure(print) / "bin" / "python",
            ROOT / "benchmarks" / "reported_memory.py",
            ROOT / "benchmarks" / "model_shapes.json",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-2000:]
    return {line["shape"]: line for line in lines}


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_that_vllm_builds(shape: str, reported: dict[str, dict[str, Any]]) -> None:
    assert counting.of(SHAPES[shape]).parameters == reported[shape]["parameters"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cache_is_divided_as_vllm_divides_it(shape: str, reported: dict[str, dict[str, Any]]) -> None:
    said, found = reported[shape], counting.of(SHAPES[shape])
    if "groups" not in said:
        assert {layer.kind for layer in found.cache} == {"full", "cross"}
        return
    assert found.is_decoder == bool(said["groups"])
    if not found.is_decoder:
        return
    cache = KvCache.of(
        found,
        element_bytes=2,
        tensor_parallel_size=1,
        in_flight_tokens=said["in_flight_tokens"],
        block_tokens=said["block_tokens"],
    )
    assert len(cache.groups) == said["groups"]
    assert cache.block_bytes == said["block_bytes"]
    assert cache.pool(CACHE_BYTES) == said["blocks"]
    assert cache.sequences(CACHE_BYTES, MAX_MODEL_LEN) == pytest.approx(said["sequences"], rel=1e-12)


@pytest.mark.parametrize("name", KNOWN)
def test_the_shipped_models_have_the_parameters_that_their_pages_say(name: str) -> None:
    """But for the vocabulary's padding, and a pooler that vLLM does not load."""
    counted = counting.of(KNOWN[name]["config"]).parameters
    assert counted == pytest.approx(KNOWN[name]["published_parameters"], rel=0.005)


def demand(config: dict[str, Any], **changes: Any) -> Demand:
    found = counting.of(config)
    quantization = changes.pop("quantization", None)
    dtype = changes.pop("dtype", "auto")
    size = weights.of(found, dtype=dtype, quantization=quantization, checkpoint_bytes=None)
    values: dict[str, Any] = {
        "architecture": found,
        "weights": size,
        "activation_bytes": 2,
        "cache_bytes": 2,
        "max_model_len": 4096,
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 256,
        "max_num_batched_tokens": None,
        "enforce_eager": False,
    }
    return Demand(**{**values, **changes})


def llama(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "torch_dtype": "bfloat16",
    }


LLAMA_3_8B = llama(4096, 14336, 32, 32, 8, 128256)
QWEN_32B = {**llama(5120, 27648, 64, 40, 8, 152064), "architectures": ["Qwen2ForCausalLM"]}


@pytest.mark.parametrize(
    ("config", "instance", "parallel", "longest", "eager", "weights_gib", "cache_gib"),
    [
        # vllm-project/vllm pull request 10511: Meta-Llama-3-8B on a GPU of 79.22 GiB
        (LLAMA_3_8B, "p5.4xlarge", 1, 8192, False, 14.96, 53.29),
        # vllm-project/vllm issue 15815: Qwen2.5-32B on two L40S of 44.42 GiB, graphs not counted
        (QWEN_32B, "g6e.12xlarge", 2, 10000, True, 30.71, 7.71),
        # benchmarks/results/gpu/cold_start/image-first.log, where vLLM 0.25.1 had its own 0.92 of the memory
        (KNOWN[QWEN_7B]["config"], "p5.4xlarge", 1, 8192, False, 14.29, 57.21 - 0.02 * 79.18),
    ],
)
def test_there_is_never_more_room_than_vllm_has_reported_nor_much_less(
    config: dict[str, Any],
    instance: str,
    parallel: int,
    longest: int,
    eager: bool,
    weights_gib: float,
    cache_gib: float,
) -> None:
    """Beside the margin, the estimate is at most 5 % of the GPU's memory off."""
    asked = demand(config, max_model_len=longest, max_num_batched_tokens=longest, enforce_eager=eager)
    found = fit(asked, gpus.of_instance(instance), parallel)
    assert found.weights_bytes / GIB == pytest.approx(weights_gib, rel=0.01)
    assert found.cache_bytes / GIB <= cache_gib
    without_margin = (found.cache_bytes + found.margin_bytes) / GIB
    assert cache_gib - without_margin < 0.05 * found.gpu.memory_gib


def test_blocks_are_as_many_as_vllm_has_reported() -> None:
    """3,947 blocks in 7.71 GiB: vllm-project/vllm issue 15815, Qwen2.5-32B on two L40S."""
    cache = KvCache.of(counting.of(QWEN_32B), element_bytes=2, tensor_parallel_size=2, in_flight_tokens=2048)
    assert cache.pool(7.71 * GIB) == 3947


def test_what_does_not_fit_is_not_said_to() -> None:
    """A model fits exactly as long as one sequence of the longest kind has room."""
    l4 = gpus.of_instance("g6.xlarge")
    config = KNOWN[QWEN_7B]["config"]
    lengths = range(8192, 131073, 8192)
    found = [fit(demand(config, max_model_len=length), l4, 1) for length in lengths]
    assert found[0].fits
    assert not found[-1].fits
    for length, item in zip(lengths, found, strict=True):
        assert item.cache is not None
        taken = item.cache.blocks(length) * item.cache.block_bytes
        everything = item.weights_bytes + item.activations_bytes + item.graphs_bytes + item.overhead_bytes
        assert item.fits == (taken <= item.usable_bytes - everything - item.margin_bytes)
        assert item.margin_bytes == pytest.approx(0.05 * everything)
        assert bool(item.problem) != item.fits
        assert item.fits or item.room(16) == 0


@pytest.mark.parametrize(
    ("changes", "instance", "parallel", "reason"),
    [
        ({}, "g4dn.xlarge", 1, 'set model.dtype to "float16"'),
        ({"dtype": "float16"}, "g4dn.xlarge", 1, "more than the GPU has"),
        ({}, "g6.48xlarge", 8, "heads (28) or inner layers cannot be divided among 8 GPUs"),
        ({"gpu_memory_utilization": 0.99}, "g6.xlarge", 1, "CUDA itself takes"),
    ],
)
def test_a_reason_is_given(changes: dict[str, Any], instance: str, parallel: int, reason: str) -> None:
    found = fit(demand(KNOWN[QWEN_7B]["config"], **changes), gpus.of_instance(instance), parallel)
    assert not found.fits
    assert reason in found.problem


def test_groups_of_quantized_weights_are_not_torn_apart() -> None:
    """22,016 columns in groups of 128 can be divided among 4 GPUs, and not among 8."""
    config = KNOWN["TheBloke/CodeLlama-34B-Instruct-GPTQ"]["config"]
    grouped = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    assert counting.of(grouped).can_be_split(4)
    assert not counting.of(grouped).can_be_split(8)
    assert counting.of({**config, "quantization_config": None}).can_be_split(8)


def test_quantization_needs_its_gpu() -> None:
    found = counting.of(KNOWN[QWEN_7B]["config"])
    size = weights.of(found, dtype="auto", quantization="fp8", checkpoint_bytes=None, least_capability=(8, 9))
    assert size.total_bytes == pytest.approx(found.linear + 2 * found.other)
    assert size.refused_by(gpus.of_instance("g5.xlarge"))
    assert not size.refused_by(gpus.of_instance("g6.xlarge"))


def test_the_files_of_a_quantized_model_count_where_they_are_larger() -> None:
    found = counting.of(KNOWN["TheBloke/CodeLlama-34B-Instruct-GPTQ"]["config"])
    without = weights.of(found, dtype="float16", quantization="gptq_marlin", checkpoint_bytes=None)
    assert 18e9 < without.total_bytes < 21e9
    larger = weights.of(found, dtype="float16", quantization="gptq_marlin", checkpoint_bytes=22 * 10**9)
    assert larger.total_bytes == 22e9


@pytest.mark.parametrize("run", range(3))
def test_the_estimate_of_throughput_is_below_what_was_measured_and_near_it(run: int) -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "throughput.json").read_text())["runs"][run]
    asked = demand(KNOWN[record["model"]]["config"], max_num_seqs=record["concurrency"], max_model_len=8192)
    load = throughput.Load(record["prompt_tokens"], record["output_tokens"])
    lying = fit(asked, gpus.of_instance("p5en.48xlarge"), 1)
    estimated = throughput.of(asked, lying, load, "not measured")
    assert estimated is not None
    assert estimated.source == "estimated"
    assert 0.7 * record["requests_per_second"] < estimated.requests_per_second
    assert estimated.requests_per_second < record["requests_per_second"]
    measured = throughput.of(asked, lying, load, record["model"])
    assert measured is not None
    assert measured.source.startswith("measured")
    assert measured.requests_per_second == record["requests_per_second"]
