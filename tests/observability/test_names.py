"""Every metric that rules, dashboard and scaling name is exported, and spelled as it is exported."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from infra.eks import dashboard, gpu_exporter, scaling
from infra.settings import AutoscalingSettings
from sandbox import promtool, vllm
from tests.observability.promtool import Promtool

if TYPE_CHECKING:
    from pathlib import Path

    from infra.eks.rules import Target
    from infra.serving import ServingSpec
    from tests.observability.recorded import Scrape

# kube-state-metrics 2.20.0, docs/metrics/workload/deployment-metrics.md
_KUBERNETES = {"kube_deployment_spec_replicas", "kube_deployment_status_replicas_available"}
_WORDS = {
    *(
        "and",
        "or",
        "on",
        "unless",
        "by",
        "sum",
        "max",
        "count",
        "rate",
        "changes",
        "absent",
        "vector",
        "bool",
    ),
    *("max_over_time", "histogram_quantile"),
}


def _metrics(query: str) -> set[str]:
    """Return the metrics in a query: its words that are not PromQL's own, nor labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", query)
    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]*", bare)) - _WORDS


def _dashboard(target: Target) -> list[str]:
    panels = json.loads(dashboard.as_json(target))["panels"]
    return [query["expr"] for panel in panels for query in panel.get("targets", [])]


def _all(groups: list[dict[str, Any]], target: Target, spec: ServingSpec) -> set[str]:
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    settings = AutoscalingSettings(max_replicas=4)
    scaled = scaling.scaled_object("model", namespace="berth", settings=settings, serving=spec)
    triggers = [trigger["metadata"]["query"] for trigger in scaled["triggers"]]
    return set().union(*(_metrics(query) for query in (*rules, *_dashboard(target), *triggers)))


def test_every_metric_is_exported(
    groups: list[dict[str, Any]], target: Target, spec: ServingSpec, recordings: list[Scrape]
) -> None:
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    named = _all(groups, target, spec)
    by_vllm = {name for name in named if name.startswith("vllm:")}
    assert len(by_vllm) >= 15
    for scrape in recordings:
        assert by_vllm <= scrape.names(), by_vllm - scrape.names()
    assert named - by_vllm <= recorded | _KUBERNETES | set(gpu_exporter.COUNTERS)


def test_every_counter_of_the_gpu_exporter_is_looked_at(
    groups: list[dict[str, Any]], target: Target, spec: ServingSpec
) -> None:
    assert set(gpu_exporter.COUNTERS) <= _all(groups, target, spec)


def test_the_labels_that_queries_select_by_are_exported(
    groups: list[dict[str, Any]], target: Target, spec: ServingSpec, recordings: list[Scrape]
) -> None:
    named = _all(groups, target, spec)
    for name, labels in recordings[-1].samples:
        if name in named and name.startswith("vllm:"):
            assert ("model_name", spec.served_name) in labels, name
    reasons = {
        dict(labels)["finished_reason"]
        for name, labels in recordings[-1].samples
        if name == "vllm:request_success_total"
    }
    assert {"error", "stop", "length", "abort"} <= reasons


def test_the_recordings_are_of_the_pinned_vllm(recordings: list[Scrape]) -> None:
    """And so, as other tests hold the sandbox's vLLM to the image's, of the one in the cluster."""
    assert [scrape.phase for scrape in recordings] == ["idle", "load-1", "load-2", "load-3", "after"]
    for scrape in recordings:
        assert scrape.header.startswith(f"# vLLM {vllm.version()} ")


def test_promtool_accepts_the_dashboards_queries(tmp_path: Path, target: Target) -> None:
    queries = _dashboard(target)
    assert len(queries) >= 20
    rules = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(queries)]
    Promtool(promtool.ensure(print), tmp_path, [{"name": "dashboard", "rules": rules}]).check()


def test_the_dashboard_is_one_that_grafana_can_lay_out(target: Target) -> None:
    panels = json.loads(dashboard.as_json(target))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    graphs = [panel for panel in panels if panel["type"] == "timeseries"]
    assert len(graphs) == 18
    assert all(graph["fieldConfig"]["defaults"]["unit"] for graph in graphs)
