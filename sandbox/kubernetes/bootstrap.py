"""The rights that EKS and kubeadm grant in a new cluster, over those that the API server makes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_MANAGER = "berth-bootstrap"
_GROUP = "rbac.authorization.k8s.io"

# What an EKS access entry's policy grants, by the group that the token webhook puts its users in.
CLUSTER_ADMIN_GROUP = "eks:AmazonEKSClusterAdminPolicy"
# The user that nodes judge connections as: it sees what a kubelet may not.
POLICY_AGENT = "eks:network-policy-agent"
# Whom a token of EKS Pod Identity is for.
POD_IDENTITY_AUDIENCE = "pods.eks.amazonaws.com"
_TOKEN_ROLE = "eks:pod-identity-tokens"  # noqa: S105  # a role's name

_ROLES: dict[str, list[dict[str, list[str]]]] = {
    POLICY_AGENT: [
        {
            "apiGroups": [""],
            "resources": ["pods", "namespaces"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["networking.k8s.io"],
            "resources": ["networkpolicies"],
            "verbs": ["get", "list", "watch"],
        },
    ],
    # A kubelet may ask for tokens of the audiences in its pods' specs. EKS's webhook writes this one there
    # when the pod is made; here the node adds it when the pod starts.
    _TOKEN_ROLE: [
        {
            "apiGroups": [""],
            "resources": [POD_IDENTITY_AUDIENCE],
            "verbs": ["request-serviceaccounts-token-audience"],
        }
    ],
}

_BINDINGS = (
    # (name, cluster role, kind of subject, subject)
    (CLUSTER_ADMIN_GROUP, "cluster-admin", "Group", CLUSTER_ADMIN_GROUP),
    ("system:kube-apiserver-to-kubelet", "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"),
    # The node proxies NodePorts itself, for which kube-proxy has an account of its own.
    ("system:node-proxier:nodes", "system:node-proxier", "Group", "system:nodes"),
    (POLICY_AGENT, POLICY_AGENT, "User", POLICY_AGENT),
    (_TOKEN_ROLE, _TOKEN_ROLE, "Group", "system:nodes"),
)


def ensure_access(client: httpx.Client) -> None:
    """Make the cluster roles and bind them; what is there already is left as it should be.

    Args:
        client: of a cluster administrator.

    Raises:
        httpx.HTTPStatusError: the API server refused.
    """
    for name, rules in _ROLES.items():
        _apply(client, "ClusterRole", "clusterroles", name, {"rules": rules})
    for name, role, kind, subject in _BINDINGS:
        binding = {
            "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _GROUP, "kind": kind, "name": subject}],
        }
        _apply(client, "ClusterRoleBinding", "clusterrolebindings", name, binding)


def _apply(client: httpx.Client, kind: str, plural: str, name: str, content: dict[str, Any]) -> None:
    client.patch(
        f"/apis/{_GROUP}/v1/{plural}/{name}",
        params={"fieldManager": _MANAGER, "force": "true"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        json={"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": {"name": name}, **content},
    ).raise_for_status()
