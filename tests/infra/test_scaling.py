"""The ScaledObject: what it asks, how fast it may act, and where it stops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import serving
from infra.eks import charts
from infra.settings import Settings, SettingsError, from_config, load
from tests.infra import variants
from tests.infra.graph import ROOT, STACKS, Graph, Recorded, configuration


@pytest.fixture(scope="module")
def prod() -> Graph:
    return variants.recorded("prod", False)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(ROOT / "stacks" / "Pulumi.prod.yaml")


def _read(stack: str, **changes: Any) -> None:
    config = configuration(stack, **changes)
    from_config(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()},
        f"stacks/Pulumi.{stack}.yaml",
    )


def _scaled_object(graph: Graph) -> Recorded:
    (found,) = [item for item in graph if item.inputs.get("kind") == "ScaledObject"]
    return found


def _spec(graph: Graph) -> dict[str, Any]:
    spec: dict[str, Any] = _scaled_object(graph).inputs["spec"]
    return spec


def _behavior(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = _spec(graph)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return found


def test_it_scales_the_models_deployment_between_the_stacks_bounds(prod: Graph, settings: Settings) -> None:
    deployment = next(
        item for item in prod.of_type("kubernetes:apps/v1:Deployment") if item.name.startswith("model")
    )
    scaled = _scaled_object(prod)
    assert scaled.inputs["metadata"]["namespace"] == deployment.inputs["metadata"]["namespace"]
    assert scaled.inputs["spec"]["scaleTargetRef"] == {"name": deployment.inputs["metadata"]["name"]}
    wanted = settings.require_eks().autoscaling
    assert wanted is not None
    assert _spec(prod)["minReplicaCount"] == wanted.min_replicas >= 1
    assert _spec(prod)["maxReplicaCount"] == wanted.max_replicas
    assert deployment.urn in prod.needs(scaled.urn)


def test_the_program_does_not_take_the_replicas_back(prod: Graph) -> None:
    deployment = next(
        item for item in prod.of_type("kubernetes:apps/v1:Deployment") if item.name.startswith("model")
    )
    assert "spec.replicas" in deployment.request.ignoreChanges


def test_what_each_trigger_asks_and_against_what(prod: Graph, settings: Settings) -> None:
    wanted = settings.require_eks().autoscaling
    assert wanted is not None
    at_a_time = settings.serving.max_num_seqs
    assert at_a_time is not None
    triggers = {trigger["name"]: trigger for trigger in _spec(prod)["triggers"]}
    assert {name: trigger["metricType"] for name, trigger in triggers.items()} == {
        "waiting": "AverageValue",
        "first-token": "Value",
        "running": "AverageValue",
    }
    assert {name: float(trigger["metadata"]["threshold"]) for name, trigger in triggers.items()} == {
        "waiting": wanted.waiting_requests_per_replica,
        "first-token": wanted.time_to_first_token_seconds,
        "running": int(0.8 * at_a_time),
    }
    for trigger in triggers.values():
        assert trigger["type"] == "prometheus"
        assert trigger["metadata"]["serverAddress"] == charts.PROMETHEUS_URL
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert f'model_name="{settings.served_name}"' in trigger["metadata"]["query"]


def test_windows_are_longer_than_a_cold_start_where_kubernetes_allows_it(
    prod: Graph, settings: Settings
) -> None:
    cold_start = serving.spec(settings).timing.cold_start_seconds
    up, down = _behavior(prod)["scaleUp"], _behavior(prod)["scaleDown"]
    assert down["stabilizationWindowSeconds"] == min(cold_start, 3600)
    assert [policy["type"] for policy in down["policies"]] == ["Pods"]
    assert down["policies"][0]["value"] == 1
    (doubled,) = up["policies"]
    assert (doubled["type"], doubled["value"]) == ("Percent", 100)
    assert doubled["periodSeconds"] == min(cold_start, 1800)
    assert 0 < up["stabilizationWindowSeconds"] <= 120


def test_without_prometheus_the_replicas_stay(prod: Graph) -> None:
    assert _spec(prod)["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert _spec(prod)["fallback"]["replicas"] == _spec(prod)["minReplicaCount"]
    assert _spec(prod)["fallback"]["failureThreshold"] * _spec(prod)["pollingInterval"] >= 60


def test_keda_reads_no_secrets_and_scales_one_namespace(prod: Graph) -> None:
    (keda,) = [
        item for item in prod.of_type("kubernetes:helm.sh/v3:Release") if item.inputs["chart"] == "keda"
    ]
    values = keda.inputs["values"]
    assert values["watchNamespace"] == _scaled_object(prod).inputs["metadata"]["namespace"]
    assert values["permissions"]["operator"]["restrict"]["secret"] is True
    assert values["rbac"]["enabledCustomScaledRefKinds"] is False


@pytest.mark.parametrize("stack", [name for name in STACKS if name != "local"])
def test_never_more_replicas_than_gpus(stack: str) -> None:
    eks = configuration(stack)["berth:eks"]
    groups = eks["gpu_node_groups"].values()
    bound = "max" if eks.get("cluster_autoscaler") else "desired"
    room = sum(group[bound] for group in groups)  # machines of one GPU each, in these stacks
    changed = {key: value for key, value in eks.items() if key != "replicas"}
    changed |= {"monitoring": {}, "autoscaling": {"max_replicas": 100 * room}}
    with pytest.raises(SettingsError, match=r"autoscaling\.max_replicas = \d+ is more than fit"):
        _read(stack, eks=changed)


def test_a_window_that_kubernetes_would_refuse_is_refused() -> None:
    eks = configuration("prod")["berth:eks"]
    changed = {**eks, "autoscaling": {**eks["autoscaling"], "scale_down_after_seconds": 3601}}
    with pytest.raises(SettingsError, match=r"scale_down_after_seconds = 3601: must be .* 1 to 3600"):
        _read("prod", eks=changed)
