"""Whose an object is: by its tags, else by the cluster, the role, the name or the VPC that it points to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.leftovers.found import Found

# What EKS, its load balancers, its CNI and its volumes write on what they make for a cluster.
_CLUSTER_TAGS = (
    "aws:eks:cluster-name",
    "eks:cluster-name",
    "cluster.k8s.amazonaws.com/name",
    "elbv2.k8s.aws/cluster",
    "KubernetesCluster",
)
_CLUSTER_TAG_PREFIX = "kubernetes.io/cluster/"
# What stands before the name of a stack in names that EKS gives.
_BEFORE = r"(?:^|[/\s:]|\beks-(?:cluster-sg-)?)"


@dataclass(frozen=True)
class Owner:
    """One stack, and how its things are known.

    Args:
        project: the project's name.
        stack: the stack's name.
        others: the other stacks of the project, whose names may begin with this one's.
    """

    project: str
    stack: str
    others: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """What the names of the stack's things begin with: see infra/naming.py."""
        return f"{self.project}-{self.stack}"

    @property
    def tagged(self) -> str:
        """The reason that the stack's tags give."""
        return f"tagged project={self.project}, stack={self.stack}"

    def names(self, text: str) -> bool:
        """Say whether the name of the stack stands in a text, and not that of another one."""
        if re.match(rf"/{re.escape(self.project)}/{re.escape(self.stack)}(/|$)", text):
            return True
        bases = [f"{self.project}-{stack}" for stack in (self.stack, *self.others)]
        found = [base for base in bases if re.search(rf"{_BEFORE}{re.escape(base)}(?=$|[-/\s])", text)]
        return max(found, key=len, default=None) == self.base

    def why(self, found: Found, tagged: frozenset[str], vpcs: Iterable[str] = ()) -> str | None:
        """Return why an object is thought to be the stack's; None where it is not.

        Args:
            found: the object.
            tagged: the ARNs of all that AWS knows with the stack's tags.
            vpcs: the ids of the stack's own VPCs.
        """
        tags = found.tags
        if found.place in tagged or (tags.get("project"), tags.get("stack")) == (self.project, self.stack):
            return self.tagged
        if {"project", "stack"} <= set(tags):
            return None
        return self._why_by_names(found, vpcs)

    def _why_by_names(self, found: Found, vpcs: Iterable[str]) -> str | None:
        for key, value in found.tags.items():
            prefixed = key.startswith(_CLUSTER_TAG_PREFIX)
            cluster = key.removeprefix(_CLUSTER_TAG_PREFIX) if prefixed else value
            if (prefixed or key in _CLUSTER_TAGS) and self.names(cluster):
                return f"tagged {key}" if prefixed else f"tagged {key}={cluster}"
        if found.role is not None and self.names(found.role):
            return f"has the role {found.role}"
        for name in (found.id, *found.names):
            if self.names(name):
                return f"its name: {name}"
        if found.vpc is not None and found.vpc in vpcs:
            return f"in the stack's {found.vpc}"
        return None
