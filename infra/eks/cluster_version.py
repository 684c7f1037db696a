"""Checks the wanted version of Kubernetes against those that EKS supports in the region."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

_SUPPORTED = "STANDARD_SUPPORT"


def supported_version(wanted: str, *, parent: pulumi.Resource, provider: aws.Provider) -> pulumi.Output[str]:
    """Return the wanted version once it is known to be in standard support.

    The program ends with an error where it is not: EKS would refuse it, or take the cluster to the next one
    without being asked, as the cluster does not pay for extended support.

    Args:
        wanted: the setting `eks.kubernetes_version`.
        parent: the component that asks.
        provider: the AWS provider.
    """
    options = pulumi.InvokeOutputOptions(parent=parent, provider=provider)
    found: pulumi.Output[aws.eks.GetClusterVersionsResult] = aws.eks.get_cluster_versions_output(
        version_status=_SUPPORTED, opts=options
    )
    return found.apply(lambda versions: _among(versions, wanted))


def _among(found: aws.eks.GetClusterVersionsResult, wanted: str) -> str:
    if found.cluster_versions is None:
        return wanted  # a preview whose provider cannot be configured yet
    offered = sorted(
        (each.cluster_version for each in found.cluster_versions),
        key=lambda version: [int(part) for part in version.split(".")],
    )
    if wanted not in offered:
        raise pulumi.RunError(
            f'berth:eks.kubernetes_version = "{wanted}": is not in standard support in {found.region}: '
            f"must be one of {', '.join(offered)}"
        )
    return wanted
