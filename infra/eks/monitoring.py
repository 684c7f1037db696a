"""Prometheus, Grafana and the GPU exporter, and what they watch of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks import charts, dashboard, gpu_exporter, rules
from infra.eks.model_service import NAME as MODEL
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import MonitoringSettings

_MONITORS = "monitoring.coreos.com/v1"
_SCRAPE_INTERVAL = "15s"  # KEDA asks as often


class Monitoring(pulumi.ComponentResource):
    """Prometheus with rules and alerts, Grafana with a dashboard, and what each GPU does.

    Grafana is reached by `kubectl -n monitoring port-forward service/kube-prometheus-stack-grafana 3000:80`;
    its password is in the Secret `grafana-admin`. Alerts are seen in both, and sent to nobody until there is
    an AlertmanagerConfig that says to whom: the chart's Alertmanager takes those of every namespace.

    What the chart's operator defines goes before the operator: nobody else could take it back.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.monitoring`.
        serving: what is served.
        grafana_password: of Grafana's user `admin`.
        after: what its pods need from their first moment to their last: system machines, DNS.
        gpu_nodes: the GPU machines: only what runs on them waits for them.
        opts: must give a Kubernetes provider.
    """

    stack: kubernetes.helm.v3.Release
    """Prometheus, its operator, Alertmanager and Grafana; it answers at `charts.PROMETHEUS_URL`."""
    namespace: pulumi.Output[str]
    """Where all of it runs."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: MonitoringSettings,
        serving: ServingSpec,
        grafana_password: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
        gpu_nodes: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Monitoring", name, None, opts)
        self._names = names
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": charts.MONITORING_NAMESPACE, "labels": names.labels},
            opts=child(self, after=after, minutes=10),
        )
        self.namespace = namespace.metadata.name
        secret = kubernetes.core.v1.Secret(
            f"{name}-grafana-admin",
            metadata=self._metadata("grafana-admin"),
            string_data=pulumi.Output.secret({"admin-user": "admin", "admin-password": grafana_password}),
            opts=child(self, minutes=5),
        )
        self.stack = charts.release(
            self,
            f"{name}-prometheus-stack",
            chart=charts.PROMETHEUS_STACK,
            namespace=self.namespace,
            values=charts.prometheus_stack(
                names, retention_days=settings.retention_days, grafana_secret=secret.metadata.name
            ),
            after=after,
        )
        gpu_exporter.daemon_set(
            self, f"{name}-gpu-exporter", names=names, namespace=self.namespace, after=[*after, *gpu_nodes]
        )
        target = rules.Target(namespace=names.project, deployment=MODEL, model_name=serving.served_name)
        self._defined(
            f"{name}-model-pods",
            "PodMonitor",
            "model",
            {
                "namespaceSelector": {"matchNames": [target.namespace]},
                "selector": {"matchLabels": {"app.kubernetes.io/name": target.deployment}},
                # vLLM asks for no key here: the NetworkPolicy says who may ask.
                "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": _SCRAPE_INTERVAL}],
            },
        )
        self._defined(
            f"{name}-gpu-pods",
            "PodMonitor",
            "gpu-exporter",
            {
                "selector": {"matchLabels": gpu_exporter.SELECTOR},
                "podMetricsEndpoints": [
                    {
                        "port": gpu_exporter.PORT_NAME,
                        "interval": _SCRAPE_INTERVAL,
                        # The exporter says whose a GPU is: that pod is meant, not the exporter's own.
                        "honorLabels": True,
                        "relabelings": [
                            {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}
                        ],
                    }
                ],
            },
        )
        self._defined(
            f"{name}-rules",
            "PrometheusRule",
            "model",
            {"groups": rules.groups(target, settings=settings, serving=serving)},
        )
        kubernetes.core.v1.ConfigMap(
            f"{name}-dashboard",
            metadata=self._metadata("model-dashboard", charts.GRAFANA_DASHBOARD_LABEL),
            data={"model.json": dashboard.as_json(target)},
            opts=child(self, minutes=5),
        )
        self.register_outputs({})

    def _defined(self, name: str, kind: str, what: str, spec: dict[str, Any]) -> None:
        """Make an object of a kind that the operator's chart defines."""
        kubernetes.apiextensions.CustomResource(
            name,
            api_version=_MONITORS,
            kind=kind,
            metadata=self._metadata(what),
            spec=spec,
            opts=child(self, after=[self.stack], minutes=5),
        )

    def _metadata(self, what: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
        return {
            "name": what,
            "namespace": self.namespace,
            "labels": {**self._names.labels, **(labels or {})},
        }
