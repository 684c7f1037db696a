"""The model server in the cluster: its namespace, Deployment, Service, Secret and what protects them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks import traffic
from infra.eks.network_policy import Egress, network_policies
from infra.eks.pod import pod_spec
from infra.gpus import INSTANCE_GPUS
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.eks.weights import Weights
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

NAME = "model"
"""The name of the Deployment, the Service and the service account."""

# Above the pods that say nothing (0), below those of the cluster itself (2,000,000,000): what ever else comes
# to stand on a machine with a GPU makes room.
_PRIORITY = 100_000


class ModelService(pulumi.ComponentResource):
    """One Deployment of the model server with as many replicas as the stack says.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served.
        image: the image by digest.
        api_key: what requests must carry.
        hub_token: for models that are not public; None without one.
        weights: the weights in a bucket; None where they come from the hub or in the image.
        load_balancer_cidrs: the networks in which only the load balancer stands.
        monitoring_namespace: the namespace whose pods may read the metrics; None without one.
        after: what pods need from their first moment to their last: nodes, DNS.
        opts: must give a Kubernetes provider.
    """

    namespace: kubernetes.core.v1.Namespace
    deployment: kubernetes.apps.v1.Deployment
    service: kubernetes.core.v1.Service

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        image: pulumi.Input[str],
        api_key: pulumi.Input[str],
        hub_token: pulumi.Input[str] | None,
        weights: Weights | None,
        load_balancer_cidrs: Sequence[pulumi.Input[str]],
        monitoring_namespace: pulumi.Input[str] | None,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:ModelService", name, None, opts)
        self._names, self._selector = names, {"app.kubernetes.io/name": NAME}
        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": names.project,
                # The API server itself refuses pods here that ask for more than these have.
                "labels": {**names.labels, "pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=child(self, after=after, minutes=10),
        )
        from_hub = weights is None and not serving.weights_in_image
        keys: dict[str, pulumi.Input[str]] = {}
        variables: dict[str, str] = {}
        if serving.api_key_variable is not None:
            keys["api-key"] = api_key
            variables[serving.api_key_variable] = "api-key"
        if hub_token is not None and from_hub:
            keys["hub-token"] = hub_token
            variables["HF_TOKEN"] = "hub-token"  # noqa: S105  # the key in the Secret
        secret = (
            kubernetes.core.v1.Secret(
                f"{name}-secret",
                metadata=self._metadata(NAME),
                string_data=pulumi.Output.secret(keys),
                opts=child(self, minutes=5),
            )
            if keys
            else None
        )
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=self._metadata(NAME),
            automount_service_account_token=False,
            opts=child(self, minutes=5),
        )
        priority = kubernetes.scheduling.v1.PriorityClass(
            f"{name}-priority",
            metadata={"name": names.of(NAME), "labels": names.labels},
            value=_PRIORITY,
            description="The model server: what else stands on a machine with a GPU makes room for it.",
            opts=child(self, after=after, minutes=5, delete_before_replace=True),
        )
        policies = network_policies(
            self,
            name,
            metadata=self._metadata,
            selector=self._selector,
            load_balancer_cidrs=load_balancer_cidrs,
            monitoring_namespace=monitoring_namespace,
            egress=Egress(
                internet=serving.reaches_internet,
                pod_identity=weights is not None,
                aws_endpoint=weights.aws_endpoint if weights else None,
            ),
        )
        scaled = settings.autoscaling
        self.deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=self._metadata(NAME),
            spec={
                "replicas": scaled.min_replicas if scaled else settings.replicas,
                "progress_deadline_seconds": serving.timing.progress_deadline_seconds,
                "revision_history_limit": 3,
                "selector": {"match_labels": self._selector},
                "strategy": {
                    "type": "RollingUpdate",
                    # Without a spare GPU, a new pod would wait for ever for the old one's.
                    "rolling_update": {
                        "max_surge": 1 if settings.surge else 0,
                        "max_unavailable": 0 if settings.surge else 1,
                    },
                },
                "template": {
                    "metadata": {
                        "labels": {**names.labels, **self._selector},
                        # A new key or token starts new pods: variables are read once.
                        "annotations": {f"{names.project}/secret": _fingerprint(keys)},
                    },
                    "spec": pod_spec(
                        settings=settings.pod,
                        serving=serving,
                        image=image,
                        args=weights.args if weights else serving.args,
                        environment={
                            **serving.pod_environment,
                            **serving.environment,
                            **(weights.environment if weights else {}),
                        },
                        secret=secret.metadata.name if secret else None,
                        secret_environment=variables,
                        service_account=account.metadata.name,
                        priority_class=priority.metadata.name,
                        selector=self._selector,
                    ),
                },
            },
            opts=child(
                self,
                after=[*policies, *(weights.ready if weights else ())],
                minutes=serving.timing.rollout_minutes(settings.most_replicas),
                # Replicas by load are not ours to set back.
                ignore_changes=["spec.replicas"] if scaled else (),
            ),
        )
        self.service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata={**self._metadata(NAME), "annotations": traffic.ANNOTATIONS},
            spec=traffic.service_spec(selector=self._selector, port=serving.port),
            opts=child(self, minutes=15),
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata=self._metadata(NAME),
            spec={
                "max_unavailable": _most_pods_of_a_machine(settings, serving),
                "selector": {"match_labels": self._selector},
            },
            opts=child(self, minutes=5),
        )
        self.register_outputs({})

    def _metadata(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": self.namespace.metadata.name,
            "labels": {**self._names.labels, **self._selector},
        }


def _most_pods_of_a_machine(settings: EksSettings, serving: ServingSpec) -> int:
    """Return how many pods may be away at a time: as many as one machine holds.

    A machine that is replaced, or taken by AWS, must get rid of all of its pods. With fewer, it would wait
    for the first to be ready elsewhere, where there may be no GPU: an update would fail after 15 minutes, and
    a spot machine would go with pods that nobody told.
    """
    types = [name for group in settings.gpu_node_groups.values() for name in group.instance_types]
    most_gpus = max(INSTANCE_GPUS[name].count for name in types)
    return max(1, min(most_gpus // serving.gpu_count, settings.most_replicas))


def _fingerprint(values: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[str]:
    return pulumi.Output.secret(
        pulumi.Output.json_dumps(values).apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:16])
    )
