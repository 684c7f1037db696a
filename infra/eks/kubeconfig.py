"""The kubeconfig of a cluster, which asks for a token for every session and so holds no credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

if TYPE_CHECKING:
    import pulumi_aws as aws


def kubeconfig(
    cluster: aws.eks.Cluster, name: str, *, region: pulumi.Input[str], endpoint: pulumi.Input[str] | None
) -> pulumi.Output[str]:
    """Return the kubeconfig as JSON, secret. It does not expire: a stored one still serves to destroy.

    Args:
        cluster: the cluster.
        name: the cluster's name.
        region: AWS's region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
    """
    user: dict[str, object] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
    }
    if endpoint is not None:
        user["env"] = [{"name": "AWS_ENDPOINT_URL", "value": endpoint}]
    server = {
        "server": cluster.endpoint,
        "certificate-authority-data": cluster.certificate_authority.data,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": server}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {"exec": user}}],
    }
    return pulumi.Output.secret(pulumi.Output.json_dumps(document))
