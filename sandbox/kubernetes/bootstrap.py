"""The rights that EKS and kubeadm grant in a new cluster, over those that the API server makes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_MANAGER = "berth-bootstrap"

# What an EKS access entry's policy grants, by the group that the token webhook puts its users in.
CLUSTER_ADMIN_GROUP = "eks:AmazonEKSClusterAdminPolicy"

_BINDINGS = (
    # (name, cluster role, kind of subject, subject)
    (CLUSTER_ADMIN_GROUP, "cluster-admin", "Group", CLUSTER_ADMIN_GROUP),
    ("system:kube-apiserver-to-kubelet", "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"),
    # The node proxies NodePorts itself, for which kube-proxy has an account of its own.
    ("system:node-proxier:nodes", "system:node-proxier", "Group", "system:nodes"),
)


def ensure_access(client: httpx.Client) -> None:
    """Bind the cluster roles; what is there already is left as it should be.

    Args:
        client: of a cluster administrator.

    Raises:
        httpx.HTTPStatusError: the API server refused.
    """
    for name, role, kind, subject in _BINDINGS:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject}],
        }
        client.patch(
            f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}",
            params={"fieldManager": _MANAGER, "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            json=binding,
        ).raise_for_status()
