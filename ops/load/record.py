"""What is kept of a load. The document, as `records.keep` writes it and `berth report` reads it:

    at, kind            when it was kept (UTC), and "load"
    stack, model, task  whose endpoints were asked, and for what
    mix                 {"name": "mixed", "parts": ["short: 64 tokens in, 64 out", ...]}; null for a task
                        without one
    users, ramp_seconds, seconds, limit_seconds     what was ordered; limit_seconds is of one request
    elapsed_seconds     from the first request to the last answer, those in flight at the end included
    ok                  whether every bound holds; false of a load that was interrupted
    interrupted         whether it was broken off with Ctrl-C, or in another way
    problems            why it is not ok, sentences
    bounds              {"max_failures_percent": 0.0, "max_p95_ms": null}
    endpoints           [{"platform": "eks"|"runpod", "type": null|"LOAD_BALANCER"|"QUEUE", "url": ...}]
    costs               [{"platform", "what", "usd_per_hour_least", "usd_per_hour_most", "source"}]; a price
                        may be null; empty of the stack `local`
    requests            a list, one for each endpoint and kind of request:
        platform, kind              for example "eks", "chat, short"
        requests, failed            ended in all; of these, without a right answer
        failures                    {"HTTP 429": {"count": 3, "example": "in the server's words"}, ...}
        requests_per_second, completion_tokens_per_second       over elapsed_seconds
        latency_ms                  {"p50", "p95", "p99"} of right answers; null if there is none
        first_token_ms              {"p50", "p99"}; null where nothing is streamed, as from a queue
        prompt_tokens, completion_tokens                        sums
    series              {"eks": [...], "runpod": [...]}, a row every two seconds, of what ended in them:
        seconds                     since the first request was allowed
        users                       at work at its end
        requests_per_second, failures_per_second, completion_tokens_per_second
        latency_ms, first_token_ms  {"p50", "p95"} of these two seconds; null if nothing ended
    sender              [{"seconds", "cpu_percent"}] of what sends; near 100 it is itself the limit
    engines             a list, one for each pod, worker or queue that could be read:
        platform, engine            "eks" and the pod's name; "runpod" and "a worker" or "the queue"
        samples                     a row about every two seconds: seconds, then of vLLM kv_cache_usage
                                    (0 to 1), running, waiting (requests now), generated_tokens, preemptions,
                                    prefix_cache_queries, prefix_cache_hits (tokens; since its start);
                                    of a queue only running and waiting (jobs now)
    engine_problems     [{"platform", "problem", "count"}]: what could not be read, and how often

A job's latency is what RunPod states, its delayTime and executionTime, and the time to submit it: how often
its status was looked at has no part in it. Percentiles are values that were measured, not interpolated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.endpoints import Endpoint
    from ops.engine_metrics import Sampler
    from ops.load.cost import Cost
    from ops.load.drive import Sent
    from ops.load.order import Order


@dataclass(frozen=True)
class Bounds:
    """When a load is good enough.

    Args:
        max_failures_percent: of each endpoint's requests, 0 to 100.
        max_p95_ms: latency of each kind of request; None for any.
    """

    max_failures_percent: float
    max_p95_ms: float | None = None


def document(
    stack: str,
    order: Order,
    endpoints: Sequence[Endpoint],
    costs: Sequence[Cost],
    bounds: Bounds,
    sent: Sent,
    metrics: Sampler,
) -> dict[str, Any]:
    """Return all there is to keep of a load, without secrets.

    Args:
        stack: the stack's name.
        order: what was ordered.
        endpoints: who was asked.
        costs: what they cost.
        bounds: what is good enough.
        sent: what came of it.
        metrics: what was read beside it.
    """
    found = problems(sent, [endpoint.platform for endpoint in endpoints], bounds)
    return {
        "stack": stack,
        "model": order.model,
        "task": order.task,
        "mix": order.mix and {"name": order.mix.name, "parts": [part.said() for part in order.mix.parts]},
        "users": order.users,
        "ramp_seconds": order.ramp_seconds,
        "seconds": order.seconds,
        "limit_seconds": order.limit_seconds,
        "elapsed_seconds": sent.seconds,
        "ok": not found and not sent.broken_off,
        "interrupted": sent.broken_off,
        "problems": found,
        "bounds": asdict(bounds),
        "endpoints": [
            {"platform": endpoint.platform, "type": endpoint.type, "url": endpoint.url}
            for endpoint in endpoints
        ],
        "costs": [asdict(cost) for cost in costs],
        "requests": sent.rows,
        "series": {
            endpoint.platform: [
                {"seconds": sample["seconds"], **sample["platforms"][endpoint.platform]}
                for sample in sent.samples
            ]
            for endpoint in endpoints
        },
        "sender": [
            {"seconds": sample["seconds"], "cpu_percent": sample["sender_cpu_percent"]}
            for sample in sent.samples
        ],
        "engines": metrics.series(),
        "engine_problems": metrics.problems(),
    }


def problems(sent: Sent, platforms: Sequence[str], bounds: Bounds) -> list[str]:
    """Return which bounds do not hold, and what else speaks against it.

    Args:
        sent: what came of the load.
        platforms: who was asked.
        bounds: what is good enough.
    """
    found = [f"the users' own program failed: {error}" for error in sent.errors]
    for platform in platforms:
        rows = [row for row in sent.rows if row["platform"] == platform]
        requests, failed = (sum(row[key] for row in rows) for key in ("requests", "failed"))
        if requests == failed:
            found.append(f"{platform}: no request was answered")
        elif failed * 100 > bounds.max_failures_percent * requests:
            found.append(
                f"{platform}: {failed} of {requests} requests failed, {failed / requests:.1%};"
                f" {bounds.max_failures_percent:g}% may"
            )
        for row in rows:
            latency = row["latency_ms"]
            if bounds.max_p95_ms is not None and latency and latency["p95"] > bounds.max_p95_ms:
                found.append(
                    f"{platform}: the p95 of {row['kind']} is {latency['p95']:.0f} ms;"
                    f" {bounds.max_p95_ms:g} ms is the bound"
                )
    return found
