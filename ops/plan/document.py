"""A plan as one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ops.plan.memory import GIB, MARGIN

if TYPE_CHECKING:
    from ops.plan.assembly import Plan
    from ops.plan.candidates import Candidate
    from ops.plan.memory import Fit
    from ops.plan.throughput import Load


def document(plan: Plan) -> dict[str, Any]:
    """Return all of a plan, in bytes, tokens, seconds and USD as the names say."""
    architecture, weights = plan.demand.architecture, plan.demand.weights
    return {
        "stack": plan.settings.stack,
        "fits": not plan.problems,
        "problems": plan.problems,
        "model": {
            "name": plan.settings.model.name,
            "revision": plan.settings.model.revision,
            "source": plan.model.source,
            "architecture": architecture.name,
            "parameters": architecture.parameters,
            "active_parameters": architecture.active,
            "weights_bytes": round(weights.total_bytes),
            "weights_format": weights.format,
            "weights_source": weights.source,
            "has_kv_cache": architecture.is_decoder,
            "max_model_len": plan.demand.max_model_len,
        },
        "margin": MARGIN,
        "load": {**asdict(plan.load), **asdict(plan.profile)},
        "prices": {"region": plan.prices.region, **plan.prices.sources, "notes": plan.prices.notes},
        "candidates": [_candidate(item, plan.load) for item in plan.candidates],
        "monthly": [asdict(item) for item in plan.monthly],
        "first_token": [asdict(item) for item in plan.timelines],
    }


def _candidate(item: Candidate, load: Load) -> dict[str, Any]:
    cost = item.usd_per_million_tokens(load)
    served = item.throughput
    return {
        "target": item.target,
        "name": item.name,
        "capacity": item.capacity,
        "chosen": item.chosen,
        "gpu": item.fit.gpu.name,
        "tensor_parallel_size": item.fit.tensor_parallel_size,
        "replicas": item.replicas,
        "fits": item.fit.fits,
        "problem": item.fit.problem,
        "memory_gib": _memory(item.fit),
        "kv_cache_tokens": item.fit.cache_tokens if item.fit.fits else 0,
        "sequences_at_max_model_len": _rounded(item.fit.sequences_at_max) if item.fit.fits else 0,
        "sequences_of_the_load": item.fit.room(load.tokens),
        "usd_per_hour": _rounded(item.usd_per_hour, 5),
        "usd_per_million_tokens": _rounded(cost, 4),
        "tokens_per_second": _rounded(served.requests_per_second * load.tokens, 1) if served else None,
        "requests_per_second": _rounded(served.requests_per_second, 3) if served else None,
        "throughput_source": served.source if served else None,
    }


def _memory(fit: Fit) -> dict[str, float]:
    parts = {
        "usable": fit.usable_bytes,
        "weights": fit.weights_bytes,
        "activations": fit.activations_bytes,
        "cuda_graphs": fit.graphs_bytes,
        "overhead": fit.overhead_bytes,
        "margin": fit.margin_bytes,
        "kv_cache": fit.cache_bytes,
    }
    return {name: round(value / GIB, 3) for name, value in parts.items()}


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
