"""Who may talk to the model's pods, and to whom they may: network policies of their namespace.

The VPC CNI enforces them where its add-on has `enableNetworkPolicy`. What they cannot say: a policy knows
addresses, not names, so "the hub" and "S3" are every public address on port 443. What they do keep out is all
that is not public: other pods and machines, the cluster's API, the rest of the VPC, and the link-local
addresses, where a machine's own credentials are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as kubernetes

from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Private networks, carriers' networks (EKS gives pods such addresses too) and link-local addresses.
_NOT_THE_INTERNET = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
_POD_IDENTITY_AGENT = "169.254.170.23/32"  # source: EKS user guide, "How EKS Pod Identity works"
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Egress:
    """What the model's pods need of the world.

    Attributes:
        internet: port 443 of public addresses, and names to find them by: the hub, or S3.
        pod_identity: the agent that gives pods their role's credentials.
        aws_endpoint: another endpoint of AWS's API, by its IPv4 address; None for AWS itself.
    """

    internet: bool
    pod_identity: bool = False
    aws_endpoint: pulumi.Input[str] | None = None


def network_policies(
    parent: pulumi.Resource,
    name: str,
    *,
    metadata: Callable[[str], dict[str, Any]],
    selector: Mapping[str, str],
    load_balancer_cidrs: Sequence[pulumi.Input[str]],
    monitoring_namespace: pulumi.Input[str] | None,
    egress: Egress,
) -> list[pulumi.Resource]:
    """Return the policies: nothing is allowed in the namespace but what the model's pods need.

    Args:
        parent: the component whose pods they are for.
        name: the beginning of their logical names.
        metadata: gives an object's metadata for its name.
        selector: the labels of the model's pods.
        load_balancer_cidrs: the networks in which only the load balancer stands.
        monitoring_namespace: the namespace whose pods may read the metrics; None without one.
        egress: what the pods need of the world.
    """
    # Questions of the kubelet for a pod's health come from its own machine, which no policy keeps out.
    sources: list[dict[str, Any]] = [{"ip_block": {"cidr": cidr}} for cidr in load_balancer_cidrs]
    if monitoring_namespace is not None:
        sources.append({"namespace_selector": {"match_labels": {_NAMESPACE_LABEL: monitoring_namespace}}})
    return [
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-default-deny",
            metadata=metadata("default-deny"),
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=child(parent, minutes=5),
        ),
        kubernetes.networking.v1.NetworkPolicy(
            f"{name}-traffic",
            metadata=metadata("model"),
            spec={
                "pod_selector": {"match_labels": dict(selector)},
                "policy_types": ["Ingress", "Egress"],
                "ingress": [{"from_": sources, "ports": [{"port": "http", "protocol": "TCP"}]}],
                "egress": _egress(egress),
            },
            opts=child(parent, minutes=5),
        ),
    ]


def _egress(wanted: Egress) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    if wanted.internet:
        rules += [
            {
                "to": [
                    {
                        "namespace_selector": {"match_labels": {_NAMESPACE_LABEL: "kube-system"}},
                        "pod_selector": {"match_labels": {"k8s-app": "kube-dns"}},
                    }
                ],
                "ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")],
            },
            {
                "to": [{"ip_block": {"cidr": "0.0.0.0/0", "except_": list(_NOT_THE_INTERNET)}}],
                "ports": [{"port": 443, "protocol": "TCP"}],
            },
        ]
    if wanted.pod_identity:
        rules.append(
            {
                "to": [{"ip_block": {"cidr": _POD_IDENTITY_AGENT}}],
                "ports": [{"port": 80, "protocol": "TCP"}],
            }
        )
    if wanted.aws_endpoint is not None:
        address = pulumi.Output.from_input(wanted.aws_endpoint).apply(urlsplit)
        rules.append(
            {
                "to": [{"ip_block": {"cidr": address.apply(lambda url: f"{url.hostname}/32")}}],
                "ports": [{"port": address.apply(lambda url: url.port), "protocol": "TCP"}],
            }
        )
    return rules
