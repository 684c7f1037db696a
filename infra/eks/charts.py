"""The Helm charts of the cluster: which, of which version, with which values, and how each is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi_kubernetes as kubernetes

from infra.eks.nodes import system_label
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

    from infra.naming import Names

MONITORING_NAMESPACE = "monitoring"
"""Where Prometheus runs: what the model's NetworkPolicy lets in besides the load balancer."""

SCALING_NAMESPACE = "keda"
"""Where KEDA runs."""

GRAFANA_DASHBOARD_LABEL = {"grafana_dashboard": "1"}
"""What Grafana's sidecar looks for on ConfigMaps."""

_MINUTES = 15
_HISTORY = 3  # old states of a release, each a Secret of up to a megabyte
# Of a machine's 50 GiB, beside images and logs.
_METRICS_GIB = 20
_METRICS_KEPT = "16GB"  # then the oldest go, before the volume is full and the pod evicted
_GRAFANA_UNSENT = {"check_for_updates": False, "check_for_plugin_updates": False, "reporting_enabled": False}


@dataclass(frozen=True)
class Chart:
    """A chart of a repository, by version.

    Attributes:
        name: its name there, and that of its release here.
        version: the chart's own, which also fixes the versions of its images.
        repository: where it comes from.
    """

    name: str
    version: str
    repository: str


PROMETHEUS_STACK = Chart(
    # Prometheus 3.14.0, its operator 0.93.1, kube-state-metrics 2.20.0, node exporter 1.12.1. Helm installs
    # the operator's custom resource definitions with it, but never changes nor deletes them: before another
    # version, `kubectl apply --server-side` those of its operator; with the cluster, they go.
    "kube-prometheus-stack",
    "88.5.3",
    "https://prometheus-community.github.io/helm-charts",
)
KEDA = Chart("keda", "2.20.2", "https://kedacore.github.io/charts")  # tested with Kubernetes 1.33 to 1.35

PROMETHEUS_URL = f"http://{PROMETHEUS_STACK.name}-prometheus.{MONITORING_NAMESPACE}.svc:9090"
"""Where pods of the cluster ask Prometheus: a name that the chart makes of its release's."""


def release(
    parent: pulumi.Resource,
    name: str,
    *,
    chart: Chart,
    namespace: pulumi.Input[str],
    values: Mapping[str, Any],
    after: Sequence[pulumi.Resource] = (),
) -> kubernetes.helm.v3.Release:
    """Return an installed chart: there when its pods are ready, and taken back as a whole if they are not.

    Args:
        parent: the component.
        name: the logical name.
        chart: which.
        namespace: where to; it must be there.
        values: the chart's, instead of its defaults.
        after: what its pods need from their first moment to their last.
    """
    return kubernetes.helm.v3.Release(
        name,
        name=chart.name,
        chart=chart.name,
        version=chart.version,
        repository_opts={"repo": chart.repository},
        namespace=namespace,
        values=dict(values),
        atomic=True,
        cleanup_on_fail=True,
        skip_await=False,
        wait_for_jobs=True,
        timeout=_MINUTES * 60,
        max_history=_HISTORY,
        # Helm's own time is up first, so that the failure carries its reason.
        opts=child(parent, after=after, minutes=_MINUTES + 5, delete_before_replace=True),
    )


def prometheus_stack(
    names: Names, *, retention_days: int, grafana_secret: pulumi.Input[str]
) -> dict[str, Any]:
    """Return the values of Prometheus' chart.

    Nothing of it is reachable from outside of the cluster: `kubectl port-forward` is the way in.

    The history is in a volume of the pod, and lost with it: the cluster has no driver for EBS volumes, as
    nothing else would use one, and a volume would be one more thing that a teardown can leave behind. What
    must be kept longer than a machine lives goes to CloudWatch, or to a remote store by an additional value.

    Args:
        names: the stack's names.
        retention_days: how long to keep what was measured.
        grafana_secret: the Secret with `admin-user` and `admin-password`.
    """
    on_system = {"nodeSelector": system_label(names)}
    return {
        # The chart sets the well-known labels itself.
        "commonLabels": _own_labels(names),
        # EKS runs these where nobody can ask them; and kube-proxy answers on its own machine only.
        **{
            part: {"enabled": False}
            for part in ("kubeControllerManager", "kubeScheduler", "kubeEtcd", "kubeProxy")
        },
        "prometheusOperator": {
            **on_system,
            # They would only check rules, which tests did: and a webhook that does not answer, as while the
            # cluster is taken down, keeps everyone else from changing theirs.
            "admissionWebhooks": {"enabled": False},
            "tls": {"enabled": False},
            "resources": _resources("50m", "128Mi"),
        },
        "prometheus": {
            "prometheusSpec": {
                **on_system,
                "retention": f"{retention_days}d",
                "retentionSize": _METRICS_KEPT,
                "storageSpec": {"emptyDir": {"sizeLimit": f"{_METRICS_GIB}Gi"}},
                # What is not the chart's own is looked at too: the model's, and the GPUs'.
                "podMonitorSelectorNilUsesHelmValues": False,
                "serviceMonitorSelectorNilUsesHelmValues": False,
                "ruleSelectorNilUsesHelmValues": False,
                "resources": _resources("200m", "1Gi", "2Gi"),
            }
        },
        "alertmanager": {"alertmanagerSpec": {**on_system, "resources": _resources("20m", "64Mi")}},
        "grafana": {
            **on_system,
            "admin": {
                "existingSecret": grafana_secret,
                "userKey": "admin-user",
                "passwordKey": "admin-password",
            },
            "grafana.ini": {"analytics": _GRAFANA_UNSENT},
            "sidecar": {
                "dashboards": {
                    "labelValue": "1",
                    "searchNamespace": MONITORING_NAMESPACE,
                    "resource": "configmap",
                },
                "datasources": {"searchNamespace": MONITORING_NAMESPACE},
            },
            "resources": _resources("50m", "256Mi"),
        },
        "kube-state-metrics": {**on_system, "resources": _resources("20m", "64Mi")},
        # On every machine, as its own tolerations say.
        "prometheus-node-exporter": {"resources": _resources("20m", "32Mi", "64Mi")},
    }


def keda(names: Names, *, namespace: str) -> dict[str, Any]:
    """Return the values of KEDA's chart: it scales Deployments of one namespace, and reads nobody's Secrets.

    Args:
        names: the stack's names.
        namespace: whose ScaledObjects it takes care of.
    """
    return {
        "additionalLabels": _own_labels(names),
        "nodeSelector": system_label(names),
        "image": {"pullPolicy": "IfNotPresent"},
        "watchNamespace": namespace,
        # No scaling of kinds that others define: what it may change is Deployments and StatefulSets.
        "rbac": {"enabledCustomScaledRefKinds": False},
        "permissions": {
            "operator": {"restrict": {"secret": True}},
            "metricServer": {"restrict": {"secret": True}},
        },
        "resources": {
            "operator": _resources("50m", "128Mi"),
            "metricServer": _resources("50m", "96Mi"),
            "webhooks": _resources("20m", "64Mi"),
        },
    }


def _own_labels(names: Names) -> dict[str, str]:
    return {f"{names.project}/owner": names.owner, f"{names.project}/stack": names.stack}


def _resources(cpu: str, memory: str, memory_limit: str | None = None) -> dict[str, Any]:
    """Return requests, and a limit of memory only: without its CPU for a moment, a measurement is late."""
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"memory": memory_limit or f"{int(memory[:-2]) * 2}{memory[-2:]}"},
    }
