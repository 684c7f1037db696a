"""The network policy agent of a node: what the VPC CNI's is on EKS.

It knows the cluster's policies and pods by a right of its own, and judges the connections to and from the
pods of its node. Policies name addresses of the VPC, programs here use loopback addresses; so for a policy

- a pod has the address that the API shows;
- a load balancer or a node has the VPC address that the sandbox's AWS gives for it (`/_sandbox/addresses`);
- AWS's API, and with it S3, is a public address (`AWS_PUBLIC`) on port 443, or what it is here;
- the Kubernetes API is the cluster IP of the Service `kubernetes`, on port 443;
- everything else, the instance metadata address too, is what it is.

As on EKS, what comes from or goes to the pod's own node is never refused, so that probes work; nor is what
a pod sends to itself.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import httpx

from sandbox.kubernetes import kubeconfig
from sandbox.kubernetes.bootstrap import POLICY_AGENT
from sandbox.kubernetes.node.addresses import to_public
from sandbox.kubernetes.node.api import Api, Mirror
from sandbox.kubernetes.node.policy import Connection, Direction, Peer, allows

if TYPE_CHECKING:
    from sandbox.kubernetes.kubeconfig import Cluster
    from sandbox.kubernetes.pki import Authority

_LOG = logging.getLogger(__name__)
# Of S3 in us-east-1, as a stand-in for every public address of AWS (ip-ranges.json).
AWS_PUBLIC = "52.216.0.1"
_API_CLUSTER_ADDRESS = "10.96.0.1"
_HTTPS = 443
_TRUST_SECONDS = 2.0
_ASK_SECONDS = 2.0


class Addresses:
    """What the addresses of load balancers and nodes are in the VPC, as the sandbox's AWS says.

    Args:
        endpoint: URL of the sandbox's AWS.
    """

    def __init__(self, endpoint: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/_sandbox/addresses"
        self._known: dict[str, str] = {}
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def get(self, local: str) -> str:
        """Return the VPC address of a loopback address, or the address itself where AWS knows none."""
        with self._lock:
            if time.monotonic() - self._asked > _TRUST_SECONDS:
                self._asked = time.monotonic()
                self._ask()
            return self._known.get(local, local)

    def _ask(self) -> None:
        try:
            response = httpx.get(self._url, timeout=_ASK_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            _LOG.warning("%s: %s", self._url, error)
            return
        # A registry alone, as in tests, knows no addresses.
        self._known = response.json() if response.is_success else {}


class PolicyAgent:
    """Judges the connections of a node's pods.

    Args:
        cluster: the API.
        authority: issues the agent's certificate.
        node_address: the node's loopback address.
        aws: URL of the sandbox's AWS.
    """

    def __init__(self, cluster: Cluster, authority: Authority, node_address: str, aws: str) -> None:
        # Of its own name: two nodes may start at once.
        pair = authority.issue(f"network-policy-agent-{node_address}", common_name=POLICY_AGENT)
        api = Api(kubeconfig.client(cluster, pair))
        self._node_address = node_address
        self._aws = _host_and_port(aws)
        self._api_server = _host_and_port(cluster.server)
        self._addresses = Addresses(aws)
        paths = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/namespaces", "/api/v1/pods")
        self._mirrors = [Mirror(api, path, lambda _object, _exists: None) for path in paths]
        self._policies, self._namespaces, self._pods = self._mirrors

    def start(self) -> None:
        """Begin to follow the cluster's policies, namespaces and pods."""
        for mirror in self._mirrors:
            mirror.start()

    def admits(self, uid: str, source: str, port: int) -> bool:
        """Say whether a pod of this node may be reached.

        Args:
            uid: the pod's.
            source: the loopback address that the connection comes from.
            port: the pod's port.
        """
        if source == self._node_address:
            return True
        return self._judge("Ingress", uid, self._peer(source), port, "TCP")

    def releases(self, uid: str, address: str, port: int, protocol: str) -> bool:
        """Say whether a pod of this node may open a connection.

        Args:
            uid: the pod's.
            address: where the connection goes to.
            port: the port there.
            protocol: "TCP" or "UDP".
        """
        if address == self._node_address:
            return True
        if (address, port) == self._aws and self._judge("Egress", uid, Peer(AWS_PUBLIC), _HTTPS, protocol):
            return True
        if (address, port) == self._api_server:
            return self._judge("Egress", uid, Peer(_API_CLUSTER_ADDRESS), _HTTPS, protocol)
        return self._judge("Egress", uid, self._peer(address), port, protocol)

    def _judge(self, direction: Direction, uid: str, peer: Peer, port: int, protocol: str) -> bool:
        # Until all of them are known nothing is allowed.
        if not all(mirror.ready.is_set() for mirror in self._mirrors):
            return False
        if peer.pod is not None and peer.pod["metadata"]["uid"] == uid:
            return True
        pod = next((pod for pod in self._pods.objects() if pod["metadata"]["uid"] == uid), None)
        namespaces = {
            each["metadata"]["name"]: each["metadata"].get("labels") or {}
            for each in self._namespaces.objects()
        }
        return pod is not None and allows(
            direction, Connection(pod, peer, port, protocol), self._policies.objects(), namespaces
        )

    def _peer(self, local: str) -> Peer:
        public = to_public(local) if local.startswith("127.") else local
        for pod in self._pods.objects():
            status = pod.get("status") or {}
            if status.get("podIP") == public and status.get("phase") not in {"Succeeded", "Failed"}:
                return Peer(public, pod)
        return Peer(self._addresses.get(local))


def _host_and_port(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    return parsed.host, parsed.port or _HTTPS
