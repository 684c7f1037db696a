"""Monitoring as production has it: what is installed where, what is secret, and what goes before what."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra.eks import charts
from tests.infra import variants
from tests.infra.graph import Graph, Recorded, Secret, configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSTEM = {"berth/nodes": "system"}


@pytest.fixture(scope="module", params=[True, False], ids=["preview", "update"])
def prod(request: pytest.FixtureRequest) -> Graph:
    return variants.recorded("prod", request.param)


def _release(graph: Graph, chart: charts.Chart) -> Recorded:
    (found,) = [item for item in graph.of_type("kubernetes:helm.sh/v3:Release") if _name(item) == chart.name]
    return found


def _name(release: Recorded) -> str:
    name: str = release.inputs["chart"]
    return name


def _defined(graph: Graph, kind: str) -> list[Recorded]:
    return [item for item in graph if item.inputs.get("kind") == kind]


def _all_below(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from _all_below(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _all_below(item, key)


def test_without_the_setting_there_is_none() -> None:
    graph = variants.recorded("dev", False)
    assert "monitoring" not in configuration("dev")["berth:eks"]
    assert not [item for item in graph if item.type.startswith(("kubernetes:helm", "kubernetes:monitoring"))]


def test_charts_are_pinned_and_come_back_whole_or_not_at_all(prod: Graph) -> None:
    for chart in (charts.PROMETHEUS_STACK, charts.KEDA):
        release = _release(prod, chart)
        assert re.fullmatch(r"\d+\.\d+\.\d+", release.inputs["version"])
        assert release.inputs["repositoryOpts"]["repo"].startswith("https://")
        assert release.inputs["atomic"] is True
        assert release.inputs["cleanupOnFail"] is True
        assert release.inputs["skipAwait"] is False
        # Helm's own time is up before the engine's, so that the reason is Helm's.
        assert all(release.inputs["timeout"] < int(limit[:-1]) * 60 for limit in release.timeouts)


def test_prometheus_keeps_what_the_stack_says_in_a_volume_that_it_does_not_outgrow(prod: Graph) -> None:
    wanted = configuration("prod")["berth:eks"]["monitoring"]["retention_days"]
    spec = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]["prometheus"]["prometheusSpec"]
    assert spec["retention"] == f"{wanted}d"
    volume_gib = int(spec["storageSpec"]["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    kept_gb = int(spec["retentionSize"].removesuffix("GB"))
    assert kept_gb * 1e9 < 0.8 * volume_gib * 2**30
    assert volume_gib < 50 / 2, "of a system machine's disk"


def test_prometheus_finds_monitors_and_rules_that_are_not_its_charts(prod: Graph) -> None:
    spec = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]["prometheus"]["prometheusSpec"]
    for kind in ("podMonitor", "serviceMonitor", "rule"):
        assert spec[f"{kind}SelectorNilUsesHelmValues"] is False


def test_what_eks_does_not_show_is_not_asked(prod: Graph) -> None:
    values = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]
    for part in ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy"):
        assert values[part] == {"enabled": False}


def test_charts_run_on_system_machines_only(prod: Graph) -> None:
    stack = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]
    placed = [
        stack["prometheusOperator"],
        stack["prometheus"]["prometheusSpec"],
        stack["alertmanager"]["alertmanagerSpec"],
        stack["grafana"],
        stack["kube-state-metrics"],
        _release(prod, charts.KEDA).inputs["values"],
    ]
    assert all(part["nodeSelector"] == _SYSTEM for part in placed)
    assert all(part["resources"] for part in placed)


def test_nothing_of_it_is_reachable_from_outside(prod: Graph) -> None:
    for chart in (charts.PROMETHEUS_STACK, charts.KEDA):
        values = _release(prod, chart).inputs["values"]
        assert not list(_all_below(values, "ingress"))
        assert set(_all_below(values, "type")) <= {"ClusterIP"}


def test_grafanas_password_is_generated_and_secret(prod: Graph) -> None:
    secret = prod.named("monitoring-grafana-admin")
    assert isinstance(secret.inputs["stringData"], Secret)
    admin = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]["grafana"]["admin"]
    assert admin == {
        "existingSecret": "grafana-admin",
        "userKey": "admin-user",
        "passwordKey": "admin-password",
    }
    assert secret.inputs["metadata"]["name"] == "grafana-admin"
    generated = [item for item in prod if item.name == "grafana-password"]
    assert [item.type for item in generated] == ["pulumi-python:dynamic/credentials:ApiKey"]
    assert not list(_all_below(_release(prod, charts.PROMETHEUS_STACK).inputs, "adminPassword"))


def test_the_models_pods_are_watched_where_and_as_they_are(prod: Graph) -> None:
    (monitor,) = [item for item in _defined(prod, "PodMonitor") if "model" in item.name]
    deployment = next(
        item for item in prod.of_type("kubernetes:apps/v1:Deployment") if item.name.startswith("model")
    )
    spec = monitor.inputs["spec"]
    assert spec["namespaceSelector"]["matchNames"] == [deployment.inputs["metadata"]["namespace"]]
    labels = deployment.inputs["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = spec["podMetricsEndpoints"]
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert endpoint["interval"] == "15s"


def test_the_gpu_exporter_runs_on_gpu_machines_and_has_no_rights_over_them(prod: Graph) -> None:
    (exporter,) = [item for item in prod.of_type("kubernetes:apps/v1:DaemonSet") if "exporter" in item.name]
    pod = exporter.inputs["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    (container,) = pod["containers"]
    assert re.fullmatch(r"[^@]+:[^@]+@sha256:[0-9a-f]{64}", container["image"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID"} & pod.keys()
    assert "nvidia.com/gpu" not in json.dumps(container["resources"])
    (monitor,) = [item for item in _defined(prod, "PodMonitor") if "gpu" in item.name]
    selected = monitor.inputs["spec"]["selector"]["matchLabels"]
    assert selected.items() <= exporter.inputs["spec"]["template"]["metadata"]["labels"].items()


def test_the_gpu_exporters_counters_are_rows_of_three(prod: Graph) -> None:
    (counters,) = [item for item in prod.of_type("kubernetes:core/v1:ConfigMap") if "counters" in item.name]
    (text,) = counters.inputs["data"].values()
    rows = [line.split(", ") for line in text.splitlines()]
    assert all(len(row) == 3 and row[1] == "gauge" for row in rows)


def test_the_dashboard_is_where_grafana_looks(prod: Graph) -> None:
    (dashboard,) = [item for item in prod.of_type("kubernetes:core/v1:ConfigMap") if "dashboard" in item.name]
    assert dashboard.inputs["metadata"]["labels"]["grafana_dashboard"] == "1"
    sidecar = _release(prod, charts.PROMETHEUS_STACK).inputs["values"]["grafana"]["sidecar"]["dashboards"]
    assert dashboard.inputs["metadata"]["namespace"] == sidecar["searchNamespace"]
    assert json.loads(dashboard.inputs["data"]["model.json"])["panels"]


def test_what_a_chart_defines_goes_before_the_chart_and_pods_before_machines(prod: Graph) -> None:
    """With the chart gone first, nobody is left to take its objects back."""
    namespaces = {
        item.inputs["metadata"]["name"]: item.urn for item in prod.of_type("kubernetes:core/v1:Namespace")
    }
    groups = [item for item in prod.of_type("aws:eks/nodeGroup:NodeGroup") if "system" in item.name]
    assert groups
    for chart, kinds, namespace in (
        (charts.PROMETHEUS_STACK, ("PodMonitor", "PrometheusRule"), charts.MONITORING_NAMESPACE),
        (charts.KEDA, ("ScaledObject",), charts.SCALING_NAMESPACE),
    ):
        release = _release(prod, chart)
        needed = prod.needs(release.urn)
        assert namespaces[namespace] in needed
        assert {group.urn for group in groups} <= needed
        for kind in kinds:
            assert _defined(prod, kind)
            assert all(release.urn in prod.needs(item.urn) for item in _defined(prod, kind))


def test_rules_are_yaml_that_says_the_stacks_thresholds(prod: Graph) -> None:
    (rules,) = _defined(prod, "PrometheusRule")
    text = yaml.safe_dump(rules.inputs["spec"])
    wanted = configuration("prod")["berth:eks"]["monitoring"]
    assert f"berth:requests_waiting:sum > {wanted['alert_waiting_requests']}" in text
    assert f"p95_5m > {wanted['alert_time_to_first_token_seconds']:g}" in text
    assert f'model_name="{configuration("prod")["berth:model"]["served_name"]}"' in text
