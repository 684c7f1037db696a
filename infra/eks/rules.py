"""Recording rules and alerts on the model server, its replicas and its GPUs.

The names are those of vLLM 0.32.0 (vllm/v1/metrics/loggers.py; its counters end in `_total` where they are
exported), of kube-state-metrics 2.20.0 (docs/metrics/workload/deployment-metrics.md) and of the counters that
the GPU exporter is told to export (infra/eks/gpu_exporter.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from infra.serving import ServingSpec
    from infra.settings import MonitoringSettings

_EVALUATION_INTERVAL = "30s"
_CACHE_FULL = 0.95
_ERROR_RATIO = 0.05
_LOOKBACK = "6h"

# Memory, NVLink, bus and firmware of the GPU itself, whatever the program on it did; source: NVIDIA,
# "Analyzing Xid Errors with the Xid Catalog": some whose remedy is a reset of the GPU or a restart.
_HARDWARE_XIDS = (48, 64, 74, 79, 95, 119, 120, 140)


@dataclass(frozen=True)
class Target:
    """What the rules watch.

    Attributes:
        namespace: where the model's pods are.
        deployment: the name of its Deployment.
        model_name: the label that vLLM puts on all its metrics: the name in requests.
    """

    namespace: str
    deployment: str
    model_name: str

    @property
    def engine(self) -> str:
        """The selector of what vLLM exports, in braces."""
        return f'{{namespace="{self.namespace}",model_name="{self.model_name}"}}'

    @property
    def replicas(self) -> str:
        """The selector of what kube-state-metrics says of the Deployment, in braces."""
        return f'{{namespace="{self.namespace}",deployment="{self.deployment}"}}'


def quantile(fraction: float, histogram: str, selector: str, window: str = "5m") -> str:
    """Return the query for a quantile of a histogram over all replicas.

    Args:
        fraction: which, 0 to 1.
        histogram: the metric's name without `_bucket`.
        selector: in braces.
        window: over how long.
    """
    return f"histogram_quantile({fraction}, sum by (le) (rate({histogram}_bucket{selector}[{window}])))"


def groups(target: Target, *, settings: MonitoringSettings, serving: ServingSpec) -> list[dict[str, Any]]:
    """Return the groups of a PrometheusRule.

    Args:
        target: what is watched.
        settings: the stack file's section `eks.monitoring`.
        serving: what is served.
    """
    return [
        {"name": "berth.model", "interval": _EVALUATION_INTERVAL, "rules": _recorded(target)},
        {
            "name": "berth.model.alerts",
            "interval": _EVALUATION_INTERVAL,
            "rules": [*_engine_alerts(target, settings), *_replica_alerts(target, serving)],
        },
        {"name": "berth.gpu.alerts", "interval": _EVALUATION_INTERVAL, "rules": _gpu_rules()},
    ]


def _recorded(target: Target) -> list[dict[str, Any]]:
    engine = target.engine
    finished = f"vllm:request_success_total{engine}"
    queries = {
        "berth:requests_waiting:sum": f"sum(vllm:num_requests_waiting{engine})",
        "berth:requests_running:sum": f"sum(vllm:num_requests_running{engine})",
        "berth:kv_cache_usage:max": f"max(vllm:kv_cache_usage_perc{engine})",
        "berth:time_to_first_token_seconds:p95_5m": quantile(
            0.95, "vllm:time_to_first_token_seconds", engine
        ),
        "berth:inter_token_latency_seconds:p95_5m": quantile(
            0.95, "vllm:inter_token_latency_seconds", engine
        ),
        "berth:request_latency_seconds:p95_5m": quantile(0.95, "vllm:e2e_request_latency_seconds", engine),
        "berth:generation_tokens:rate5m": f"sum(rate(vllm:generation_tokens_total{engine}[5m]))",
        "berth:prompt_tokens:rate5m": f"sum(rate(vllm:prompt_tokens_total{engine}[5m]))",
        "berth:preemptions:rate5m": f"sum(rate(vllm:num_preemptions_total{engine}[5m]))",
        "berth:admission_rejections:rate5m": f"sum(rate(vllm:admission_rejections_total{engine}[5m]))",
        "berth:requests_finished:rate5m": f"sum by (finished_reason) (rate({finished}[5m]))",
        # No requests, no ratio: 0 / 0 is NaN, which is above no threshold.
        "berth:request_errors:ratio5m": (
            f'sum(rate({finished[:-1]},finished_reason="error"}}[5m])) / sum(rate({finished}[5m]))'
        ),
        "berth:prefix_cache_hits:ratio5m": (
            f"sum(rate(vllm:prefix_cache_hits_total{engine}[5m])) "
            f"/ sum(rate(vllm:prefix_cache_queries_total{engine}[5m]))"
        ),
    }
    labels = {"namespace": target.namespace, "model_name": target.model_name}
    return [{"record": name, "expr": query, "labels": labels} for name, query in queries.items()]


def _engine_alerts(target: Target, settings: MonitoringSettings) -> list[dict[str, Any]]:
    seconds = settings.alert_time_to_first_token_seconds
    waiting = settings.alert_waiting_requests
    return [
        _alert(
            "ModelSlowToFirstToken",
            f"berth:time_to_first_token_seconds:p95_5m > {seconds:g}",
            minutes=5,
            severity="warning",
            summary=f"One in twenty requests waits longer than {seconds:g} s for its first token.",
            description=(
                "The 95th percentile is {{ $value | humanizeDuration }}. See the dashboard: requests that "
                "wait mean too few replicas (raise eks.replicas or eks.autoscaling.max_replicas); none that "
                "wait mean long prompts (lower serving.max_num_batched_tokens or model.max_model_len)."
            ),
        ),
        _alert(
            "ModelQueueLong",
            f"berth:requests_waiting:sum > {waiting}",
            minutes=5,
            severity="warning",
            summary=f"More than {waiting} requests wait for a place in the model server.",
            description=(
                "{{ $value | humanize }} requests wait. Replicas that start will take them (see the "
                "dashboard); where all that may run do run, raise eks.replicas or "
                "eks.autoscaling.max_replicas, and the node group's max with it."
            ),
        ),
        _alert(
            "ModelCacheFull",
            f"max by (pod) (vllm:kv_cache_usage_perc{target.engine}) > {_CACHE_FULL}",
            minutes=5,
            severity="warning",
            summary="The KV cache of {{ $labels.pod }} is full.",
            description=(
                "{{ $value | humanizePercentage }} of its blocks are in use: further requests wait, or take "
                "the place of others. Add replicas, lower serving.max_num_seqs or model.max_model_len, or "
                "raise serving.gpu_memory_utilization if the GPU has memory left."
            ),
        ),
        _alert(
            "ModelPreemptsRequests",
            f"sum by (pod) (rate(vllm:num_preemptions_total{target.engine}[5m])) > 0",
            minutes=10,
            severity="warning",
            summary="{{ $labels.pod }} stops requests to make room for others, and computes them again.",
            description=(
                "{{ $value | humanize }} a second: the KV cache is too small for the requests that run at a "
                "time. Lower serving.max_num_seqs, or add replicas."
            ),
        ),
        _alert(
            "ModelRejectsRequests",
            "berth:admission_rejections:rate5m > 0",
            minutes=5,
            severity="critical",
            summary="Requests are refused with 503, as the queue is full.",
            description=(
                "{{ $value | humanize }} a second. Add replicas; a higher serving.max_queued_requests only "
                "makes users wait for an answer that comes too late."
            ),
        ),
        _alert(
            "ModelErrors",
            f"berth:request_errors:ratio5m > {_ERROR_RATIO}",
            minutes=5,
            severity="critical",
            summary="The model server ends requests with errors of its own.",
            description=(
                "{{ $value | humanizePercentage }} of the requests end so. The pods' logs have the reason: "
                f"kubectl -n {target.namespace} logs deployment/{target.deployment}; a pod that goes on "
                "failing is deleted and replaced: kubectl delete pod."
            ),
        ),
    ]


def _replica_alerts(target: Target, serving: ServingSpec) -> list[dict[str, Any]]:
    available = f"kube_deployment_status_replicas_available{target.replicas}"
    start_minutes = math.ceil(serving.timing.cold_start_seconds / 60)
    pods = f"kubectl -n {target.namespace} describe pods -l app.kubernetes.io/name={target.deployment}"
    return [
        _alert(
            "ModelMetricsAbsent",
            # Without a replica there is nothing to see, and the next alert says so.
            f"absent(vllm:num_requests_running{target.engine}) and on () ({available} > 0)",
            minutes=5,
            severity="critical",
            summary="Replicas are ready, but Prometheus sees no metrics of theirs: no other alert can fire.",
            description=(
                "Look at Prometheus' page of targets for the PodMonitor of the model, and at the model's "
                f"NetworkPolicy, which must let this namespace in; the label model_name must be "
                f"{target.model_name}."
            ),
        ),
        _alert(
            "ModelNotServing",
            # A first start is none of its business: `up` waits for it, and tells.
            f"{available} == 0 and on () max_over_time({available}[{_LOOKBACK}]) > 0",
            minutes=2,
            severity="critical",
            summary="No replica of the model is ready: every request fails.",
            description=(
                f"{pods} says what each waits for: a machine, the image, the weights, or its probe. A model "
                f"may take {start_minutes} minutes to start."
            ),
        ),
        _alert(
            "ModelReplicasNotReady",
            f"kube_deployment_spec_replicas{target.replicas} - {available} > 0",
            minutes=start_minutes,
            severity="warning",
            summary="Replicas of the model are not ready, longer than a start may take.",
            description=(
                "{{ $value | humanize }} are not. " + f"{pods} says why: Pending is a machine that cannot be "
                "had (quota, capacity), CrashLoopBackOff has its reason in the log of the container."
            ),
        ),
    ]


def _gpu_rules() -> list[dict[str, Any]]:
    recorded = "berth:gpu_xid:max"
    broken = " or ".join(f"{recorded} == {code}" for code in _HARDWARE_XIDS)
    page = "docs.nvidia.com/deploy/xid-errors says what the code means. "
    return [
        # The exporter's series also carries the error's text, and so is another one for each error.
        {"record": recorded, "expr": "max by (node, gpu) (DCGM_FI_DEV_XID_ERRORS)"},
        _alert(
            "GpuBroken",
            broken,
            minutes=1,
            severity="critical",
            summary="GPU {{ $labels.gpu }} of {{ $labels.node }} reports a fault of its own.",
            description=(
                "XID {{ $value }}. " + page + "Node repair replaces the machine where it is on; otherwise "
                "kubectl drain {{ $labels.node }} --ignore-daemonsets --delete-emptydir-data, and terminate "
                "the instance: its group starts another."
            ),
        ),
        _alert(
            "GpuError",
            f"{recorded} > 0 and changes({recorded}[30m]) > 0 unless ({broken})",
            minutes=0,
            severity="warning",
            summary="GPU {{ $labels.gpu }} of {{ $labels.node }} reports an error.",
            description=(
                "XID {{ $value }}. " + page + "Codes 13, 31, 43 and 45 come from the program: see the model "
                "server's log at that time. The same code on one machine only is the machine's."
            ),
        ),
    ]


def _alert(
    name: str,
    expression: str,
    *,
    minutes: int,
    severity: Literal["warning", "critical"],
    summary: str,
    description: str,
) -> dict[str, Any]:
    """Return an alert; `critical` is for a person now, `warning` for one in working hours."""
    return {
        "alert": name,
        "expr": expression,
        "for": f"{minutes}m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
