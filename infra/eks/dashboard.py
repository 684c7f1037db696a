"""Grafana's dashboard of the model: what users see, what the engine does, what the GPUs do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.eks.rules import quantile

if TYPE_CHECKING:
    from infra.eks.rules import Target

_DATASOURCE = {"type": "prometheus", "uid": "prometheus"}  # the chart's own name for its Prometheus
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


@dataclass(frozen=True)
class _Panel:
    """One graph: its queries by legend, and the unit as Grafana calls it."""

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def as_json(target: Target) -> str:
    """Return the dashboard as Grafana reads it, always the same for the same target."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, graphs in _rows(target).items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            }
        )
        top += 1
        for number, graph in enumerate(graphs):
            column, line = number % _COLUMNS, number // _COLUMNS
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_graph(len(panels) + 1, graph, place))
        top += -(-len(graphs) // _COLUMNS) * _HEIGHT
    return json.dumps(
        {
            "uid": "berth-model",
            "title": "Berth: model",
            "tags": ["berth"],
            "timezone": "utc",
            "schemaVersion": 41,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "panels": panels,
        },
        sort_keys=True,
    )


def _graph(number: int, graph: _Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": graph.title,
        "description": graph.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": graph.unit, "min": 0, "custom": {"fillOpacity": 10}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(graph.queries.items())
        ],
    }


def _rows(target: Target) -> dict[str, list[_Panel]]:
    return {
        "What users see": _for_users(target),
        "What the engine does": _engine(target),
        "Replicas and GPUs": _replicas(target),
    }


def _quantiles(target: Target, histogram: str) -> dict[str, str]:
    return {
        f"p{fraction * 100:g}": quantile(fraction, histogram, target.engine) for fraction in (0.5, 0.95, 0.99)
    }


def _for_users(target: Target) -> list[_Panel]:
    engine = target.engine
    return [
        _Panel("Time to first token", "s", _quantiles(target, "vllm:time_to_first_token_seconds")),
        _Panel("Time between tokens", "s", _quantiles(target, "vllm:inter_token_latency_seconds")),
        _Panel("Whole request", "s", _quantiles(target, "vllm:e2e_request_latency_seconds")),
        _Panel(
            "Requests that ended, by reason",
            "reqps",
            {
                "{{finished_reason}}": (
                    f"sum by (finished_reason) (rate(vllm:request_success_total{engine}[5m]))"
                )
            },
            "stop and length are answers; abort is a client that left; error is the server's own.",
        ),
        _Panel(
            "Requests refused",
            "reqps",
            {"{{reason}}": f"sum by (reason) (rate(vllm:admission_rejections_total{engine}[5m]))"},
            "Answered with 503 at once, as the queue was full.",
        ),
        _Panel(
            "Tokens",
            "short",
            {
                "prompt": f"sum(rate(vllm:prompt_tokens_total{engine}[5m]))",
                "generated": f"sum(rate(vllm:generation_tokens_total{engine}[5m]))",
            },
            "A second.",
        ),
    ]


def _engine(target: Target) -> list[_Panel]:
    engine = target.engine
    return [
        _Panel(
            "Requests",
            "short",
            {
                "running": f"sum(vllm:num_requests_running{engine})",
                "waiting": f"sum(vllm:num_requests_waiting{engine})",
            },
        ),
        _Panel(
            "KV cache in use", "percentunit", {"{{pod}}": f"max by (pod) (vllm:kv_cache_usage_perc{engine})"}
        ),
        _Panel(
            "Requests stopped for others",
            "reqps",
            {"{{pod}}": f"sum by (pod) (rate(vllm:num_preemptions_total{engine}[5m]))"},
            "Preemptions: the KV cache was full, and the request is computed again later.",
        ),
        _Panel("Time in the queue", "s", _quantiles(target, "vllm:request_queue_time_seconds")),
        _Panel(
            "Prefill and decode, p95",
            "s",
            {
                "prefill": quantile(0.95, "vllm:request_prefill_time_seconds", engine),
                "decode": quantile(0.95, "vllm:request_decode_time_seconds", engine),
            },
        ),
        _Panel(
            "Prompt tokens found in the prefix cache",
            "percentunit",
            {
                "hits": (
                    f"sum(rate(vllm:prefix_cache_hits_total{engine}[5m])) "
                    f"/ sum(rate(vllm:prefix_cache_queries_total{engine}[5m]))"
                )
            },
        ),
    ]


def _replicas(target: Target) -> list[_Panel]:
    by_gpu = "max by (node, gpu)"
    legend = "{{node}} {{gpu}}"
    memory = "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"
    return [
        _Panel(
            "Replicas",
            "short",
            {
                "wanted": f"kube_deployment_spec_replicas{target.replicas}",
                "ready": f"kube_deployment_status_replicas_available{target.replicas}",
            },
        ),
        _Panel("GPU utilization", "percent", {legend: f"{by_gpu} (DCGM_FI_DEV_GPU_UTIL)"}),
        _Panel("GPU memory in use", "percentunit", {legend: f"{by_gpu} ({memory})"}),
        _Panel("GPU temperature", "celsius", {legend: f"{by_gpu} (DCGM_FI_DEV_GPU_TEMP)"}),
        _Panel("GPU power", "watt", {legend: f"{by_gpu} (DCGM_FI_DEV_POWER_USAGE)"}),
        _Panel(
            "Last XID error",
            "none",
            {legend: f"{by_gpu} (DCGM_FI_DEV_XID_ERRORS)"},
            "0 is none; docs.nvidia.com/deploy/xid-errors has the others.",
        ),
    ]
