"""The way of a request through a machine to its pod: the Service, and the ports it opens on every machine.

The load balancer sends requests to port `NODE_PORT` of the machines that answer its health check on port
`HEALTH_NODE_PORT`. There Kubernetes' own proxy says 200 where a pod is ready, and 503 from the moment when
the machine's last pod is to go, while requests that still come are brought to that pod as long as it serves.
So a pod that goes loses none: not even those on connections that the load balancer keeps open, which with the
policy `Cluster` would go on to it until they are closed. With the policy `Local` requests also keep the load
balancer's address, by which the network policy knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NODE_PORT = 30080
"""Where a machine takes requests for its pods."""
HEALTH_NODE_PORT = 30081
"""Where a machine says whether it has a pod that is ready."""
HEALTH_PATH = "/healthz"

_CLASS = "berth/graph"

ANNOTATIONS = {"pulumi.com/skipAwait": "true"}
"""Nothing gives the Service an address of a load balancer, for which Pulumi would wait."""


def service_spec(*, selector: Mapping[str, str], port: int) -> dict[str, Any]:
    """Return the specification of the Service.

    Only Services of type LoadBalancer have a health port. The load balancer itself is part of the graph: by
    the class, no controller in the cluster makes one of its own.

    Args:
        selector: the labels of its pods.
        port: the Service's own, for requests from inside the cluster.
    """
    return {
        "type": "LoadBalancer",
        "load_balancer_class": _CLASS,
        "external_traffic_policy": "Local",
        "health_check_node_port": HEALTH_NODE_PORT,
        "selector": dict(selector),
        "ports": [{"name": "http", "port": port, "target_port": "http", "node_port": NODE_PORT}],
    }
