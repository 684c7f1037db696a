"""The Cluster Autoscaler: machines for pods that wait, and none for those that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.eks.identity import associate, pod_role
from infra.eks.nodes import system_label
from infra.eks.third_party import CLUSTER_AUTOSCALER
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.eks.cluster import Cluster
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

_NAME = "cluster-autoscaler"
_NAMESPACE = "kube-system"
_PORT = 8085
_USER = 65534  # nobody
_TAG = "k8s.io/cluster-autoscaler"
# The autoscaler's own defaults, which none of its times should be below.
_LEAST_SECONDS = 600
# A machine with one of eight GPUs in use is at 0.125: none is given up, nor its pod moved, while it has work.
_GPU_UTILIZATION_THRESHOLD = 0.1

_READ = ["get", "list", "watch"]
# Source: the autoscaler's own example for AWS and its chart, less API groups that are gone.
_CLUSTER_RULES: list[dict[str, Any]] = [
    {"api_groups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"api_groups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    {"api_groups": [""], "resources": ["pods/status"], "verbs": ["update"]},
    {"api_groups": [""], "resources": ["nodes"], "verbs": [*_READ, "update"]},
    {
        "api_groups": [""],
        "resources": [
            "namespaces",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "replicationcontrollers",
            "services",
        ],
        "verbs": _READ,
    },
    {"api_groups": ["apps"], "resources": ["daemonsets", "replicasets", "statefulsets"], "verbs": _READ},
    {"api_groups": ["batch"], "resources": ["jobs"], "verbs": _READ},
    {"api_groups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": _READ},
    # Its scheduler looks at them in clusters where nothing is allocated by them, too.
    {
        "api_groups": ["resource.k8s.io"],
        "resources": ["deviceclasses", "resourceclaims", "resourceslices"],
        "verbs": _READ,
    },
    {
        "api_groups": ["storage.k8s.io"],
        "resources": [
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
        ],
        "verbs": _READ,
    },
]
_NAMESPACE_RULES: list[dict[str, Any]] = [
    {"api_groups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "api_groups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resource_names": [_NAME],
        "verbs": ["get", "update"],
    },
    {"api_groups": [""], "resources": ["configmaps"], "verbs": ["create", "list", "watch"]},
    {
        "api_groups": [""],
        "resources": ["configmaps"],
        "resource_names": [f"{_NAME}-status"],
        "verbs": ["delete", "get", "update", "watch"],
    },
]


class ClusterAutoscaler(pulumi.ComponentResource):
    """One pod on a system machine that sets the sizes of the node groups.

    It goes before any machine does: alive, it would bring back what the end of a stack takes away.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served: how long a replica takes to start and to stop.
        cluster: the cluster.
        region: AWS's region.
        after: what it needs from its first moment to its last: all node groups with their tags, DNS.
        opts: must give an AWS provider and a Kubernetes provider.

    Raises:
        pulumi.RunError: no image is known for the cluster's version.
    """

    resources: list[pulumi.Resource]
    """What pods depend on that may have to wait for a machine."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        cluster: Cluster,
        region: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:ClusterAutoscaler", name, None, opts)
        self._name, self._names = name, names
        image = _image(settings.kubernetes_version)
        role = pod_role(
            self,
            f"{name}-role",
            names=names,
            cluster=cluster,
            what=_NAME,
            namespace=_NAMESPACE,
            service_account=_NAME,
            statements=pulumi.Output.all(cluster.cluster.arn, cluster.name).apply(
                lambda values: _statements(*values)
            ),
        )
        association = associate(self, f"{name}-association", cluster=cluster, role=role)
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-service-account",
            metadata=self._metadata(),
            # Its pod asks for the token itself.
            automount_service_account_token=False,
            opts=child(self, after=after, minutes=5),
        )
        rights = self._rights(account, after)
        self.resources = [
            kubernetes.apps.v1.Deployment(
                f"{name}-deployment",
                metadata=self._metadata(),
                spec={
                    "replicas": 1,
                    "revision_history_limit": 3,
                    "selector": {"match_labels": self._selector},
                    # They elect a leader, but two need the room of two on small machines.
                    "strategy": {"type": "Recreate"},
                    "template": {
                        "metadata": {
                            "labels": {**names.labels, **self._selector},
                            # It would be moved by itself, and every machine would then be unneeded anew.
                            "annotations": {f"{_NAME}.kubernetes.io/safe-to-evict": "false"},
                        },
                        "spec": self._pod(image, region, _arguments(cluster.name, serving)),
                    },
                },
                opts=child(self, after=[*after, association, *rights], minutes=10),
            )
        ]
        self.register_outputs({})

    @property
    def _selector(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": _NAME}

    def _metadata(self, *, namespaced: bool = True) -> dict[str, Any]:
        return {
            "name": _NAME,
            "labels": {**self._names.labels, **self._selector},
            **({"namespace": _NAMESPACE} if namespaced else {}),
        }

    def _rights(
        self, account: kubernetes.core.v1.ServiceAccount, after: Sequence[pulumi.Resource]
    ) -> list[pulumi.Resource]:
        rbac, group = kubernetes.rbac.v1, "rbac.authorization.k8s.io"
        everywhere = rbac.ClusterRole(
            f"{self._name}-cluster-role",
            metadata=self._metadata(namespaced=False),
            rules=_CLUSTER_RULES,
            opts=child(self, after=after, minutes=5),
        )
        here = rbac.Role(
            f"{self._name}-namespace-role",
            metadata=self._metadata(),
            rules=_NAMESPACE_RULES,
            opts=child(self, after=after, minutes=5),
        )
        subject = {"kind": "ServiceAccount", "name": account.metadata.name, "namespace": _NAMESPACE}
        return [
            rbac.ClusterRoleBinding(
                f"{self._name}-cluster-role-binding",
                metadata=self._metadata(namespaced=False),
                role_ref={"api_group": group, "kind": "ClusterRole", "name": everywhere.metadata.name},
                subjects=[subject],
                opts=child(self, minutes=5),
            ),
            rbac.RoleBinding(
                f"{self._name}-namespace-role-binding",
                metadata=self._metadata(),
                role_ref={"api_group": group, "kind": "Role", "name": here.metadata.name},
                subjects=[subject],
                opts=child(self, minutes=5),
            ),
        ]

    def _pod(
        self, image: str, region: pulumi.Input[str], arguments: list[pulumi.Input[str]]
    ) -> dict[str, Any]:
        return {
            "service_account_name": _NAME,
            "automount_service_account_token": True,
            "enable_service_links": False,
            "priority_class_name": "system-cluster-critical",
            "node_selector": system_label(self._names),
            "security_context": {
                "run_as_non_root": True,
                "run_as_user": _USER,
                "run_as_group": _USER,
                "fs_group": _USER,
                "seccomp_profile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": _NAME,
                    "image": image,
                    "image_pull_policy": "IfNotPresent",
                    # The image has no entry point but a command, which arguments alone would replace.
                    "command": ["/cluster-autoscaler"],
                    "args": arguments,
                    # The machine's metadata, where it would look otherwise, is out of a pod's reach.
                    "env": [{"name": "AWS_REGION", "value": region}],
                    "ports": [{"name": "http", "container_port": _PORT}],
                    "liveness_probe": {
                        "http_get": {"path": "/health-check", "port": "http"},
                        "initial_delay_seconds": 30,
                        "period_seconds": 10,
                        "failure_threshold": 6,
                    },
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "300Mi"},
                        "limits": {"memory": "600Mi"},
                    },
                    "security_context": {
                        "allow_privilege_escalation": False,
                        "read_only_root_filesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        }


def _image(kubernetes_version: str) -> str:
    if kubernetes_version not in CLUSTER_AUTOSCALER:
        raise pulumi.RunError(
            "berth:eks.cluster_autoscaler = true: must be false with eks.kubernetes_version "
            f'"{kubernetes_version}", as its image is known for {", ".join(CLUSTER_AUTOSCALER)} only'
        )
    return CLUSTER_AUTOSCALER[kubernetes_version]


def _arguments(cluster: pulumi.Output[str], serving: ServingSpec) -> list[pulumi.Input[str]]:
    # A machine that goes before the replica it came for was ready would come again: no decision to take one
    # away is made, or carried out, within the time of a cold start.
    cold_start_seconds = max(_LEAST_SECONDS, serving.timing.cold_start_seconds)
    return [
        "--cloud-provider=aws",
        pulumi.Output.concat(f"--node-group-auto-discovery=asg:tag={_TAG}/enabled,{_TAG}/", cluster),
        "--balance-similar-node-groups",
        "--expander=least-waste",
        # CoreDNS and the like move; what must not has a disruption budget or says so itself.
        "--skip-nodes-with-system-pods=false",
        "--skip-nodes-with-local-storage=false",
        f"--scale-down-delay-after-add={cold_start_seconds}s",
        f"--scale-down-unneeded-time={cold_start_seconds}s",
        f"--scale-down-gpu-utilization-threshold={_GPU_UTILIZATION_THRESHOLD}",
        # Its default of ten minutes would cut a longer drain short.
        f"--max-graceful-termination-sec={max(_LEAST_SECONDS, serving.timing.termination_grace_seconds)}",
        "--leader-elect=true",
        f"--address=:{_PORT}",
        "--stderrthreshold=info",
        "--v=2",
    ]


def _statements(cluster_arn: str, cluster: str) -> list[dict[str, Any]]:
    """Return what it may do: look at all groups, as AWS knows no narrower right, and change only ours.

    Source: the autoscaler's documentation for AWS, "full cluster autoscaler features policy".
    """
    return [
        {
            "Effect": "Allow",
            "Action": [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeAutoScalingInstances",
                "autoscaling:DescribeLaunchConfigurations",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeImages",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:GetInstanceTypesFromInstanceRequirements",
            ],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": ["eks:DescribeNodegroup"],
            "Resource": f"{cluster_arn.replace(':cluster/', ':nodegroup/')}/*",
        },
        {
            "Effect": "Allow",
            "Action": [
                "autoscaling:SetDesiredCapacity",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            "Resource": "*",
            "Condition": {"StringEquals": {f"aws:ResourceTag/{_TAG}/{cluster}": "owned"}},
        },
    ]
