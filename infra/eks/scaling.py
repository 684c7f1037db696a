"""Replicas by load: KEDA asks Prometheus how long the queue is and how long the first token takes."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks import charts, rules
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.eks.monitoring import Monitoring
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import AutoscalingSettings

_POLL_SECONDS = 15  # as often as there are new measurements
_SCALE_UP_SECONDS = 60  # that load must last: one long prompt is none
_SCALE_DOWN_LEAST_SECONDS = 300
_LONGEST_WINDOW_SECONDS = 3600  # Kubernetes takes no longer window, and
_LONGEST_PERIOD_SECONDS = 1800  # no longer period of a policy
_FAILURES = 4  # in a row: a minute without Prometheus
_BUSY = 0.8  # of the requests that a replica computes at a time


class Scaling(pulumi.ComponentResource):
    """KEDA, and a ScaledObject of the model's Deployment.

    - Requests that wait, over all replicas: one more replica for each `waiting_requests_per_replica`.
    - The 95th percentile of the time to the first token, against the one that is wanted.
    - Where the stack limits the requests that a replica computes at a time, those, so that replicas which are
      busy with an empty queue are not taken away, to be missed at once.

    The largest of the three numbers holds. More replicas come after a minute of load, at most twice as many
    for each time that a start may take: the queue goes on growing until the new ones are ready, and would
    otherwise call for ever more. Fewer come one by one, after load was low for longer than a start takes.
    Without an answer of Prometheus, or without metrics of the model in it, the replicas stay as they are.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.autoscaling`.
        serving: what is served.
        deployment: the model's; its replicas are decided here once it is there.
        monitoring: whose Prometheus is asked.
        after: what pods need from their first moment to their last: nodes, DNS.
        opts: must give a Kubernetes provider.
    """

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: AutoscalingSettings,
        serving: ServingSpec,
        deployment: kubernetes.apps.v1.Deployment,
        monitoring: Monitoring,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Scaling", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": charts.SCALING_NAMESPACE, "labels": names.labels},
            opts=child(self, after=after, minutes=10),
        )
        keda = charts.release(
            self,
            f"{name}-keda",
            chart=charts.KEDA,
            namespace=namespace.metadata.name,
            values=charts.keda(names, namespace=names.project),
            after=after,
        )
        kubernetes.apiextensions.CustomResource(
            f"{name}-model",
            api_version="keda.sh/v1alpha1",
            kind="ScaledObject",
            metadata={
                "name": deployment.metadata.name,
                "namespace": deployment.metadata.namespace,
                "labels": names.labels,
            },
            spec=scaled_object(
                deployment.metadata.name,
                namespace=names.project,
                settings=settings,
                serving=serving,
            ),
            # KEDA takes its own objects back, and needs Prometheus for as long as there are any.
            opts=child(self, after=[keda, monitoring.stack, deployment], minutes=5),
        )
        self.register_outputs({})


def scaled_object(
    deployment: pulumi.Input[str],
    *,
    namespace: str,
    settings: AutoscalingSettings,
    serving: ServingSpec,
) -> dict[str, Any]:
    """Return the spec of a ScaledObject.

    Args:
        deployment: the name of the model's.
        namespace: where its pods are.
        settings: the stack file's section `eks.autoscaling`.
        serving: what is served.
    """
    engine = rules.Target(namespace, "", serving.served_name).engine
    first_token = rules.quantile(0.95, "vllm:time_to_first_token_seconds", engine, "2m")
    triggers = [
        _trigger(
            "waiting",
            f"sum(vllm:num_requests_waiting{engine})",
            "AverageValue",
            settings.waiting_requests_per_replica,
        ),
        _trigger(
            "first-token",
            # Without requests there is no percentile: then nobody waits.
            f"({first_token} > 0) or vector(0)",
            # As it is: an average would divide the time by the number of replicas.
            "Value",
            settings.time_to_first_token_seconds,
        ),
    ]
    if (at_a_time := _at_a_time(serving)) is not None:
        triggers.append(
            _trigger(
                "running",
                f"sum(vllm:num_requests_running{engine})",
                "AverageValue",
                max(1, math.floor(at_a_time * _BUSY)),
            )
        )
    start_seconds = serving.timing.cold_start_seconds
    return {
        "scaleTargetRef": {"name": deployment},
        "minReplicaCount": settings.min_replicas,
        "maxReplicaCount": settings.max_replicas,
        "pollingInterval": _POLL_SECONDS,
        "triggers": triggers,
        "fallback": {
            "failureThreshold": _FAILURES,
            "replicas": settings.min_replicas,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {
            # The Deployment goes with the ScaledObject, or keeps what it has.
            "restoreToOriginalReplicaCount": False,
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": _SCALE_UP_SECONDS,
                        "policies": [
                            {
                                "type": "Percent",
                                "value": 100,
                                "periodSeconds": min(start_seconds, _LONGEST_PERIOD_SECONDS),
                            }
                        ],
                    },
                    "scaleDown": {
                        "stabilizationWindowSeconds": _scale_down_seconds(settings, start_seconds),
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
                    },
                }
            },
        },
    }


def _at_a_time(serving: ServingSpec) -> int | None:
    """Return how many requests a replica computes at a time; None where vLLM decides by the GPU."""
    options = dict(itertools.pairwise(serving.options))
    return int(options["--max-num-seqs"]) if "--max-num-seqs" in options else None


def _scale_down_seconds(settings: AutoscalingSettings, start_seconds: int) -> int:
    if settings.scale_down_after_seconds is not None:
        return settings.scale_down_after_seconds
    return min(max(_SCALE_DOWN_LEAST_SECONDS, start_seconds), _LONGEST_WINDOW_SECONDS)


def _trigger(name: str, query: str, metric_type: str, threshold: float) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "name": name,
        "metricType": metric_type,
        "metadata": {
            "serverAddress": charts.PROMETHEUS_URL,
            "query": query,
            "threshold": f"{threshold:g}",
            # No metrics is not no load: it is an error, and so the replicas stay.
            "ignoreNullValues": "false",
        },
    }
