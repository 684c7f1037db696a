"""How many tokens a second one replica serves: as measured where somebody has, else from the GPU's limits.

The estimate is a roofline: a step of a batch reads the weights and the cache of every sequence once, at the
memory's speed, and multiplies; reading prompts takes its operations at the speed of multiplication. Both
speeds are taken below the data sheet's by what was measured of Qwen2.5-7B on an H200, where this estimate is
12 to 25 % too low; a test holds it to that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Task
    from ops.plan.memory import Demand, Fit

_MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "throughput.json"
_USUAL_PROMPT, _USUAL_OUTPUT = 512, 128
_READS_ONLY = ("embed", "score", "classify")
_OF_BANDWIDTH = 0.75
_OF_TFLOPS = 0.7
_STEP_SECONDS = 0.001  # the scheduler, the sampler, and kernels that are too small to count
_PARALLEL_STEP_SECONDS = 0.0015  # two all-reduces in each layer
_PARALLEL_SHARE = 0.85  # of what several GPUs could do, without NVLink less


@dataclass(frozen=True)
class Load:
    """What one request is like.

    Attributes:
        prompt_tokens: it has so many.
        output_tokens: it gets so many.
    """

    prompt_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, task: Task, max_model_len: int, prompt_tokens: int | None, output_tokens: int | None) -> Load:
        """Return a usual request where nobody says what one is like.

        Args:
            task: the model's.
            max_model_len: what both have room in.
            prompt_tokens, output_tokens: as somebody says, or None.
        """
        if output_tokens is None:
            output_tokens = 0 if task in _READS_ONLY else min(_USUAL_OUTPUT, max_model_len // 4)
        if prompt_tokens is None:
            prompt_tokens = max(1, min(_USUAL_PROMPT, max_model_len - output_tokens))
        return cls(prompt_tokens, output_tokens)

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True)
class Throughput:
    """One replica with a full batch.

    Attributes:
        requests_per_second: of the load's kind.
        concurrency: sequences at once.
        request_seconds: from a request's start to its end among so many others.
        source: whether it was measured, and where.
    """

    requests_per_second: float
    concurrency: int
    request_seconds: float
    source: str


def of(demand: Demand, fit: Fit, load: Load, model: str) -> Throughput | None:
    """Return what a replica serves; None where it does not fit, or has no room for one such request.

    Args:
        demand: what the stack file asks.
        fit: how the model lies in the GPUs of a replica.
        load: what requests are like.
        model: the model's name on the hub, by which measurements are known.
    """
    concurrency = fit.room(min(load.tokens, demand.max_model_len))
    if not concurrency:
        return None
    return _measured(fit, load, model, concurrency) or _estimated(demand, fit, load, concurrency)


def _measured(fit: Fit, load: Load, model: str, concurrency: int) -> Throughput | None:
    found = [
        run
        for run in json.loads(_MEASURED.read_text())["runs"]
        if run["model"] == model
        and run["gpu"] == fit.gpu.name
        and run["tensor_parallel_size"] == fit.tensor_parallel_size
        and (run["prompt_tokens"], run["output_tokens"]) == (load.prompt_tokens, load.output_tokens)
        and run["concurrency"] <= concurrency
    ]
    if not found:
        return None
    best = max(found, key=lambda run: run["requests_per_second"])
    rate = float(best["requests_per_second"])
    return Throughput(
        rate, best["concurrency"], best["concurrency"] / rate, f"measured, {best['concurrency']} at once"
    )


def _estimated(demand: Demand, fit: Fit, load: Load, concurrency: int) -> Throughput:
    architecture, gpu, parallel = demand.architecture, fit.gpu, fit.tensor_parallel_size
    share = _PARALLEL_SHARE if parallel > 1 else 1.0
    bandwidth = gpu.bandwidth_gb_per_second * 1e9 * _OF_BANDWIDTH * share
    tflops = gpu.tflops_8_bit if demand.weights.multiplies_in_8_bits else gpu.tflops
    operations = tflops * 1e12 * _OF_TFLOPS * share * parallel
    if demand.activation_bytes == 4:
        operations /= 8  # float32 goes past the tensor cores
    per_token = 2 * architecture.active
    encoded = 2 * architecture.encoder_parameters * architecture.encoder_tokens
    reading = (load.prompt_tokens * per_token + encoded) / operations
    if not architecture.is_decoder:
        once = fit.weights_bytes / bandwidth + _STEP_SECONDS
        seconds = max(reading, once / concurrency)
        return Throughput(1 / seconds, concurrency, seconds * concurrency, "estimated")
    length = load.prompt_tokens + load.output_tokens / 2
    # With experts, a large batch passes through all of them.
    step = (fit.weights_bytes + concurrency * length * fit.token_bytes) / bandwidth
    step = max(step, concurrency * per_token / operations) + _STEP_SECONDS
    step += _PARALLEL_STEP_SECONDS if parallel > 1 else 0.0
    seconds = reading + load.output_tokens * step / concurrency
    return Throughput(1 / seconds, concurrency, seconds * concurrency, "estimated")
