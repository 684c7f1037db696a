"""Alerts fire when they should and only then: promtool over what the real vLLM exported, going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.eks import charts, scaling
from infra.settings import AutoscalingSettings
from tests.observability.promtool import Promtool, firing
from tests.observability.recorded import STEP_SECONDS, Scrape, of_pod, series

if TYPE_CHECKING:
    from infra.eks.rules import Target
    from infra.serving import ServingSpec

_MINUTES = 70


def _deployment(target: Target, wanted: str, available: str) -> list[dict[str, str]]:
    labels = {"namespace": target.namespace, "deployment": target.deployment, "job": "kube-state-metrics"}
    return [
        {"series": series("kube_deployment_spec_replicas", labels), "values": wanted},
        {"series": series("kube_deployment_status_replicas_available", labels), "values": available},
    ]


def _healthy(target: Target) -> list[dict[str, str]]:
    return _deployment(target, "2x400", "2x400")


def _pod(phases: list[Scrape], target: Target, *, still: bool, pod: str = "model-a") -> list[dict[str, str]]:
    return of_pod(phases, minutes=_MINUTES, still=still, namespace=target.namespace, pod=pod)


def _overwritten(inputs: list[dict[str, str]], part: str, values: str) -> list[dict[str, str]]:
    """Return the series with other values for those that have this in their name or labels."""
    assert any(part in item["series"] for item in inputs), part
    return [{**item, "values": values} if part in item["series"] else item for item in inputs]


def test_promtool_accepts_the_rules(tool: Promtool) -> None:
    said = tool.check()
    assert "SUCCESS" in said
    count = sum(len(group["rules"]) for group in tool.groups)
    assert f"{count} rules found" in said


def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(groups: list[dict[str, Any]]) -> None:
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(alerts) == 11
    for alert in alerts:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"].endswith(".")
        assert len(alert["annotations"]["description"]) > 80, alert["alert"]


def test_load_beyond_what_the_server_takes(tool: Promtool, target: Target, recordings: list[Scrape]) -> None:
    """As recorded, and on: two requests run, six wait, and more are refused."""
    tool.add(
        "load",
        [*_pod(recordings[:-1], target, still=False), *_healthy(target)],
        promql_expr_test=[
            firing({}, 1),
            firing(
                {
                    "ModelSlowToFirstToken": 1,
                    "ModelQueueLong": 1,
                    "ModelRejectsRequests": 1,
                },
                30,
            ),
        ],
    )
    tool.test()


def test_nothing_fires_without_load_nor_after_it(
    tool: Promtool, target: Target, recordings: list[Scrape]
) -> None:
    idle = [recordings[0], recordings[0]]
    tool.add(
        "idle",
        [*_pod(idle, target, still=True), *_healthy(target)],
        promql_expr_test=[firing({}, minutes) for minutes in (5, 20, 40)],
    )
    tool.add(
        "after",
        [*_pod(recordings, target, still=True), *_healthy(target)],
        promql_expr_test=[firing({}, minutes) for minutes in (5, 20, 40)],
    )
    tool.test()


def test_a_full_cache(tool: Promtool, target: Target, recordings: list[Scrape]) -> None:
    idle = _pod([recordings[0], recordings[0]], target, still=True)
    full = "vllm:kv_cache_usage_perc"
    summary = {
        "exp_labels": {"severity": "warning", "pod": "model-a"},
        "exp_annotations": {
            "summary": "The KV cache of model-a is full.",
            "description": (
                "98% of its blocks are in use: further requests wait, or take the place of others. Add "
                "replicas, lower serving.max_num_seqs or model.max_model_len, or raise "
                "serving.gpu_memory_utilization if the GPU has memory left."
            ),
        },
    }
    tool.add(
        "full",
        [*_overwritten(idle, full, "0.98x400"), *_healthy(target)],
        promql_expr_test=[firing({}, 4), firing({"ModelCacheFull": 1}, 6)],
        alert_rule_test=[{"alertname": "ModelCacheFull", "eval_time": "10m", "exp_alerts": [summary]}],
    )
    tool.add(
        "nearly full",
        [*_overwritten(idle, full, "0.94x400"), *_healthy(target)],
        promql_expr_test=[firing({}, 30)],
    )
    tool.test()


def test_preemptions(tool: Promtool, target: Target, recordings: list[Scrape]) -> None:
    idle = _pod([recordings[0], recordings[0]], target, still=True)
    tool.add(
        "one a minute",
        [*_overwritten(idle, "vllm:num_preemptions_total", "0 0 0 1 1 1 1+0.25x400"), *_healthy(target)],
        promql_expr_test=[firing({}, 9), firing({"ModelPreemptsRequests": 1}, 15)],
    )
    tool.add(
        "one in all",
        [*_overwritten(idle, "vllm:num_preemptions_total", "0 0 0 1x400"), *_healthy(target)],
        promql_expr_test=[firing({}, minutes) for minutes in (5, 15)],
    )
    tool.test()


def test_errors_of_the_server(tool: Promtool, target: Target, recordings: list[Scrape]) -> None:
    idle = _pod([recordings[0], recordings[0]], target, still=True)
    answered = _overwritten(idle, 'finished_reason="stop"', "0+90x400")
    error = 'finished_reason="error"'
    tool.add(
        "one in ten",
        [*_overwritten(answered, error, "0+10x400"), *_healthy(target)],
        promql_expr_test=[firing({}, 4), firing({"ModelErrors": 1}, 10)],
    )
    tool.add(
        "one in ninety",
        [*_overwritten(answered, error, "0+1x400"), *_healthy(target)],
        promql_expr_test=[firing({}, 30)],
    )
    tool.test()


def test_replicas(tool: Promtool, target: Target, recordings: list[Scrape], spec: ServingSpec) -> None:
    pod = _pod([recordings[0], recordings[0]], target, still=True)
    start = spec.timing.cold_start_seconds
    minutes = start // 60
    steps = start // STEP_SECONDS
    tool.add(
        "not watched",
        _healthy(target),
        promql_expr_test=[firing({}, 4), firing({"ModelMetricsAbsent": 1}, 10)],
    )
    tool.add(
        "the first start",
        _deployment(target, "1x400", f"0x{steps - 8} 1x400"),
        promql_expr_test=[firing({}, minutes - 5)],
    )
    tool.add(
        "all gone",
        [*pod, *_deployment(target, "2x400", "2x40 0x400")],
        promql_expr_test=[
            firing({}, 11),
            firing({"ModelNotServing": 1}, 14),
            firing({"ModelNotServing": 1, "ModelReplicasNotReady": 1}, 11 + minutes),
        ],
    )
    tool.add(
        "one of two does not come back",
        [*pod, *_deployment(target, "2x400", "2x40 1x400")],
        promql_expr_test=[firing({}, minutes), firing({"ModelReplicasNotReady": 1}, 11 + minutes)],
    )
    tool.add(
        "one of two comes back in time",
        [*pod, *_deployment(target, "2x400", f"2x40 1x{steps - 8} 2x400")],
        promql_expr_test=[firing({}, 11 + minutes)],
    )
    tool.test()


@pytest.mark.parametrize(
    ("code", "alert"), [(0, None), (79, "GpuBroken"), (31, "GpuError"), (13, "GpuError"), (48, "GpuBroken")]
)
def test_gpus(tool: Promtool, target: Target, recordings: list[Scrape], code: int, alert: str | None) -> None:
    """The exporter puts the code into a label too, so that an error is another series."""
    labels = {"node": "gpu-1", "gpu": "0", "Hostname": "dcgm-exporter-x"}
    errors = [
        {
            "series": series("DCGM_FI_DEV_XID_ERRORS", {**labels, "err_code": "0"}),
            "values": "0x40 stale" if code else "0x400",
        },
        {
            "series": series("DCGM_FI_DEV_XID_ERRORS", {**labels, "gpu": "1", "err_code": "0"}),
            "values": "0x400",
        },
    ]
    if code:
        errors.append(
            {
                "series": series("DCGM_FI_DEV_XID_ERRORS", {**labels, "err_code": str(code)}),
                "values": f"_x40 {code}x400",
            }
        )
    pod = _pod([recordings[0], recordings[0]], target, still=True)
    tool.add(
        f"XID {code}",
        [*pod, *_healthy(target), *errors],
        promql_expr_test=[firing({}, 9), firing({alert: 1} if alert else {}, 13)],
    )
    tool.test()


def _scaling(spec: ServingSpec) -> dict[str, str]:
    settings = AutoscalingSettings(min_replicas=1, max_replicas=4)
    found = scaling.scaled_object("model", namespace="berth", settings=settings, serving=spec)
    return {trigger["name"]: trigger["metadata"]["query"] for trigger in found["triggers"]}


def test_scaling_asks_for_one_number(
    tool: Promtool, target: Target, recordings: list[Scrape], spec: ServingSpec
) -> None:
    """KEDA takes a query's only element: of two replicas, the sum; without requests, no time at all."""
    queries = _scaling(spec)
    assert set(queries) == {"waiting", "first-token", "running"}
    last = recordings[-2]
    waiting, running = (
        next(value for (name, _), value in last.samples.items() if name == f"vllm:num_requests_{state}")
        for state in ("waiting", "running")
    )
    assert waiting > 0
    pods = [
        item for pod in ("model-a", "model-b") for item in _pod(recordings[:-1], target, still=False, pod=pod)
    ]

    def expected(name: str, value: float) -> dict[str, Any]:
        return {"expr": queries[name], "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": value}]}

    tool.add(
        "two replicas under load",
        pods,
        promql_expr_test=[
            expected("waiting", 2 * waiting),
            expected("running", 2 * running),
            # How long does not matter here, but that it is one number, and a long time.
            {
                "expr": f"count({queries['first-token']}) == 1 and ({queries['first-token']}) > 2",
                "eval_time": "10m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            },
        ],
    )
    tool.add(
        "idle",
        _pod([recordings[0], recordings[0]], target, still=True),
        promql_expr_test=[expected("waiting", 0), expected("running", 0), expected("first-token", 0)],
    )
    # No metrics is no number: KEDA is told that this is an error, and the replicas stay as they are.
    tool.add(
        "nothing to be seen",
        [],
        promql_expr_test=[{"expr": queries["waiting"], "eval_time": "10m", "exp_samples": []}],
    )
    tool.test()


def test_scaling_asks_where_prometheus_is(spec: ServingSpec) -> None:
    settings = AutoscalingSettings(max_replicas=4)
    found = scaling.scaled_object("model", namespace="berth", settings=settings, serving=spec)
    assert {trigger["metadata"]["serverAddress"] for trigger in found["triggers"]} == {charts.PROMETHEUS_URL}
