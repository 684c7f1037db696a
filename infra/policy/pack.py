"""All policies of the pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.policy import budgets, containers, endpoints, machines, permissions, storage

if TYPE_CHECKING:
    from pulumi_policy import Policy

POLICIES: list[Policy] = [
    endpoints.CLUSTER_API_IS_LIMITED,
    endpoints.OPEN_PORTS_SPEAK_TLS,
    endpoints.SERVICES_MAKE_NO_LOAD_BALANCER,
    storage.ENCRYPTED_AT_REST,
    storage.BUCKETS_ARE_CLOSED,
    machines.GPU_GROUPS_ARE_TAINTED,
    machines.METADATA_WANTS_A_TOKEN,
    containers.IMAGES_BY_DIGEST,
    permissions.NO_WILDCARD_ACTIONS,
    budgets.PROD_HAS_A_BUDGET,
]
"""Each is mandatory: a violation ends a preview or an update before anything is changed."""
