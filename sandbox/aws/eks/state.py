"""What the sandbox's EKS has made. The dictionaries are in the shape in which the API describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Nodegroup:
    """A node group.

    Args:
        data: as DescribeNodegroup gives it.
        region: where it is.
        template_id: the launch template that EKS made for it.
        group_name: its Auto Scaling group; empty until its instances were launched.
        outdated: ids of instances that an update has yet to replace.
        surge: how many instances an update has launched over the desired size.
        noticed: by instance id, when EC2 takes back a spot instance that it has given notice of, in seconds
            since 1970.
    """

    data: dict[str, Any]
    region: str
    template_id: str = ""
    group_name: str = ""
    outdated: list[str] = field(default_factory=list)
    surge: int = 0
    noticed: dict[str, float] = field(default_factory=dict)


@dataclass
class Cluster:
    """A cluster.

    Args:
        data: as DescribeCluster gives it.
        region: where it is.
        number: its place among the clusters of the account; gives the control plane its address.
        creator_arn: the IAM principal that made it.
        interface_ids: the network interfaces it put into its subnets.
        cni_removed: whether the VPC CNI was taken away, so that nobody clears up after nodes that end.
    """

    data: dict[str, Any]
    region: str
    number: int
    creator_arn: str
    interface_ids: list[str] = field(default_factory=list)
    cni_removed: bool = False
    nodegroups: dict[str, Nodegroup] = field(default_factory=dict)
    addons: dict[str, dict[str, Any]] = field(default_factory=dict)
    access_entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    access_policies: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    pod_identities: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.data["name"])

    @property
    def active(self) -> bool:
        """Whether it takes work."""
        return self.data["status"] in {"ACTIVE", "UPDATING"}


@dataclass
class State:
    """All clusters of the account, and the addresses of their nodes.

    Args:
        clusters: by name.
        node_numbers: by instance id; the last octet of the node's address.
    """

    clusters: dict[str, Cluster] = field(default_factory=dict)
    node_numbers: dict[str, int] = field(default_factory=dict)
