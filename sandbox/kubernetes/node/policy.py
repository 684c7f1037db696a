"""Decides by NetworkPolicies (networking.k8s.io/v1) whether a connection is allowed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sandbox.kubernetes.selectors import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.kubernetes.node.api import Object

Direction = Literal["Ingress", "Egress"]


@dataclass(frozen=True)
class Peer:
    """The other end of a connection.

    Args:
        address: its address in the VPC.
        pod: the pod that has it, if it is a pod's.
    """

    address: str
    pod: Object | None = None


@dataclass(frozen=True)
class Connection:
    """A connection that is to be judged.

    Args:
        pod: whose policies count.
        peer: the other end.
        port: where the connection goes: the pod's port, or for egress the peer's.
        protocol: "TCP" or "UDP".
    """

    pod: Object
    peer: Peer
    port: int
    protocol: str = "TCP"


def allows(
    direction: Direction,
    connection: Connection,
    policies: Iterable[Object],
    namespaces: Mapping[str, Mapping[str, str]],
) -> bool:
    """Say whether the pod's policies allow a connection: one of them must, unless none is about it.

    Args:
        direction: "Ingress" for a connection to the pod, "Egress" for one that it opens.
        connection: the connection.
        policies: all of the cluster's.
        namespaces: the labels of each namespace.
    """
    about = [policy for policy in policies if _is_about(policy, direction, connection.pod)]
    return not about or any(
        _rule_allows(rule, direction, connection, policy["metadata"]["namespace"], namespaces)
        for policy in about
        for rule in policy["spec"].get(direction.lower()) or ()
    )


def _is_about(policy: Object, direction: Direction, pod: Object) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        # The API server fills in the types where they are left out.
        and direction in (spec.get("policyTypes") or ["Ingress"])
        and matches(spec.get("podSelector") or {}, pod["metadata"].get("labels") or {})
    )


def _rule_allows(
    rule: Mapping[str, Any],
    direction: Direction,
    connection: Connection,
    namespace: str,
    namespaces: Mapping[str, Mapping[str, str]],
) -> bool:
    peers: Sequence[Mapping[str, Any]] = rule.get("from" if direction == "Ingress" else "to") or ()
    ports: Sequence[Mapping[str, Any]] = rule.get("ports") or ()
    target = connection.pod if direction == "Ingress" else connection.peer.pod
    return (not peers or any(_is_peer(each, connection.peer, namespace, namespaces) for each in peers)) and (
        not ports or any(_is_port(each, connection, target) for each in ports)
    )


def _is_peer(
    wanted: Mapping[str, Any],
    peer: Peer,
    namespace: str,
    namespaces: Mapping[str, Mapping[str, str]],
) -> bool:
    block = wanted.get("ipBlock")
    if block:
        address = ipaddress.ip_address(peer.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(excluded) for excluded in block.get("except") or ()
        )
    if peer.pod is None:
        return False
    metadata = peer.pod["metadata"]
    selector = wanted.get("namespaceSelector")
    if selector is None:
        in_namespace = metadata["namespace"] == namespace
    else:
        in_namespace = matches(selector, namespaces.get(metadata["namespace"], {}))
    return in_namespace and matches(wanted.get("podSelector") or {}, metadata.get("labels") or {})


def _is_port(wanted: Mapping[str, Any], connection: Connection, target: Object | None) -> bool:
    if wanted.get("protocol", "TCP") != connection.protocol:
        return False
    port = wanted.get("port")
    if port is None:
        return True
    if isinstance(port, str):
        return (port, connection.protocol, connection.port) in _named_ports(target)
    return int(port) <= connection.port <= int(wanted.get("endPort") or port)


def _named_ports(pod: Object | None) -> set[tuple[str, str, int]]:
    return {
        (port["name"], port.get("protocol", "TCP"), port["containerPort"])
        for container in (pod["spec"]["containers"] if pod is not None else ())
        for port in container.get("ports") or ()
        if port.get("name")
    }
