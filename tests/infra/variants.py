"""Stacks beside the shipped ones: each turns on what no stack file has, and one turns on all of it."""

from __future__ import annotations

import copy
import functools
from typing import Any

from tests.infra import graph

_ADMIN = "arn:aws:iam::123456789012:role/admin"
_VIEWER = "arn:aws:iam::123456789012:role/viewer"
_GPU = {"instance_types": ["g6e.2xlarge"], "desired": 2, "max": 3}
_BLOCK = {
    "instance_types": ["p5.48xlarge"],
    "capacity_type": "CAPACITY_BLOCK",
    "capacity_reservation_id": "cr-0123456789abcdef0",
    "zone_index": 0,
    "desired": 0,
}
_EXISTING = {
    "vpc_id": "vpc-0123456789abcdef0",
    "node_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "load_balancer_subnet_ids": ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
}
_TLS = {
    "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/a",
    "host_name": "model.example.com",
    "internal": False,
    "allowed_cidrs": ["0.0.0.0/0"],
    "access_logs": True,
    "waf": {},
}
_MONITORED = {
    "monitoring": {},
    "autoscaling": {"min_replicas": 1, "max_replicas": 2},
    "cluster_autoscaler": True,
    "replicas": None,
}
_NETWORK = {"zones": 2, "nat": "per_zone", "interface_endpoints": True, "flow_logs": {"traffic": "ALL"}}

# Name -> the stack whose file is changed, and its section `eks`: None takes a key away. Settings that have
# nothing to do with each other share a stack, since each one is run; `everything` is not enough, as there an
# edge of one setting may hold what another one alone leaves loose.
_CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "existing-vpc": (
        "staging",
        {
            "network": {"existing": _EXISTING},
            "api": {"allowed_cidrs": []},
            "s3_weights": {"bucket": "weights-of-others"},
            "gpu_node_groups": {"gpu": _GPU, "block": _BLOCK},
        },
    ),
    "no-nat": (
        "dev",
        {
            "network": {"nat": "none"},
            "gpu_node_groups": {"gpu": {**_GPU, "operating_system": "BOTTLEROCKET"}},
        },
    ),
    "https": (
        "staging",
        {"load_balancer": _TLS, "s3_weights": {}, "gpu_node_groups": {"gpu": {**_GPU, "warm_pool": {}}}},
    ),
    "monitored": ("staging", {**_MONITORED, "gpu_node_groups": {"gpu": _GPU}}),
    "local-autoscaled": ("local", {"cluster_autoscaler": True}),
    "everything": (
        "prod",
        {
            **_MONITORED,
            "network": _NETWORK,
            "load_balancer": _TLS,
            "s3_weights": {},
            "cloudwatch_observability": True,
            "admin_principal_arns": [_ADMIN],
            "viewer_principal_arns": [_VIEWER],
            "deletion_protection": False,
            "gpu_node_groups": {
                "gpu": {**_GPU, "warm_pool": {}},
                "other": {**_GPU, "operating_system": "BOTTLEROCKET"},
            },
        },
    ),
}
VARIANTS = sorted(_CHANGES)
EVERYTHING = "everything"


def sections(name: str) -> tuple[str, dict[str, Any]]:
    """Return a variant's stack, and its sections in the place of those in the stack's file."""
    stack, changes = _CHANGES[name]
    eks = {**copy.deepcopy(graph.configuration(stack)["berth:eks"]), **changes}
    return stack, {"eks": {key: value for key, value in eks.items() if value is not None}}


@functools.cache
def recorded(name: str, preview: bool) -> graph.Graph:
    """Return the graph of a stack file or of a variant, recorded once for all tests of a process."""
    if name in graph.STACKS:
        return graph.run(name, preview=preview)
    stack, changes = sections(name)
    return graph.run(stack, preview=preview, **changes)
