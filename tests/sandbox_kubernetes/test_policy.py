"""NetworkPolicies are judged as the API defines them, and a node lets nothing else through."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.kubernetes.node.policy import Connection, Peer, allows
from tests.sandbox_kubernetes.conftest import Cluster, pod, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = {"default": {"team": "a"}, "monitoring": {"kubernetes.io/metadata.name": "monitoring"}}
WEB: dict[str, Any] = {
    "metadata": {"namespace": "default", "labels": {"app": "web"}},
    "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}]}]},
}
SCRAPER: dict[str, Any] = {
    "metadata": {"namespace": "monitoring", "labels": {"app": "prometheus"}},
    "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 9090}]}]},
}


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default"}, "spec": {"podSelector": {}, **spec}}


def ingress(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return policy(policyTypes=["Ingress"], ingress=list(rules), **spec)


BLOCK = {"ipBlock": {"cidr": "10.64.0.0/16", "except": ["10.64.9.0/24"]}}


@pytest.mark.parametrize(
    ("policies", "peer", "port", "allowed"),
    [
        ([], Peer("10.1.1.1"), 8000, True),
        ([policy(policyTypes=["Egress"])], Peer("10.1.1.1"), 8000, True),
        ([ingress(podSelector={"matchLabels": {"app": "other"}})], Peer("10.1.1.1"), 8000, True),
        ([ingress()], Peer("10.1.1.1"), 8000, False),
        ([ingress({})], Peer("10.1.1.1"), 8000, True),
        ([ingress({"from": [BLOCK]})], Peer("10.64.1.1"), 8000, True),
        ([ingress({"from": [BLOCK]})], Peer("10.64.9.1"), 8000, False),
        ([ingress({"from": [BLOCK]})], Peer("10.65.1.1"), 8000, False),
        ([ingress(), ingress({"from": [BLOCK]})], Peer("10.64.1.1"), 8000, True),
        ([ingress({"from": [BLOCK], "ports": [{"port": "http"}]})], Peer("10.64.1.1"), 8000, True),
        ([ingress({"from": [BLOCK], "ports": [{"port": "http"}]})], Peer("10.64.1.1"), 8001, False),
        ([ingress({"ports": [{"port": 7000, "endPort": 9000}]})], Peer("10.1.1.1"), 8000, True),
        ([ingress({"ports": [{"port": 7000, "endPort": 7999}]})], Peer("10.1.1.1"), 8000, False),
        ([ingress({"ports": [{"port": 8000, "protocol": "UDP"}]})], Peer("10.1.1.1"), 8000, False),
        ([ingress({"from": [{"namespaceSelector": {}}]})], Peer("10.9.9.9", SCRAPER), 8000, True),
        ([ingress({"from": [{"podSelector": {}}]})], Peer("10.9.9.9", SCRAPER), 8000, False),
        (
            [
                ingress(
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchExpressions": [
                                        {
                                            "key": "kubernetes.io/metadata.name",
                                            "operator": "In",
                                            "values": ["monitoring"],
                                        }
                                    ]
                                },
                                "podSelector": {"matchLabels": {"app": "grafana"}},
                            }
                        ]
                    }
                )
            ],
            Peer("10.9.9.9", SCRAPER),
            8000,
            False,
        ),
    ],
)
def test_ingress(policies: list[dict[str, Any]], peer: Peer, port: int, allowed: bool) -> None:
    assert allows("Ingress", Connection(WEB, peer, port), policies, NAMESPACES) is allowed


def test_egress_takes_named_ports_from_the_peer() -> None:
    rule = {"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}
    policies = [policy(policyTypes=["Egress"], egress=[rule])]
    scraper = Peer("10.9.9.9", SCRAPER)
    assert allows("Egress", Connection(WEB, scraper, 9090), policies, NAMESPACES)
    assert not allows("Egress", Connection(WEB, scraper, 9091), policies, NAMESPACES)
    assert not allows("Egress", Connection(WEB, Peer("1.1.1.1"), 9090), policies, NAMESPACES)


_TRY = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.split(":")
    try:
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.settimeout(60)
            connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print(target, "open" if connection.recv(1) else "closed", flush=True)
    except OSError as error:
        print(target, type(error).__name__, flush=True)
"""


@pytest.fixture
def web(cluster: Cluster) -> Iterator[str]:
    """A pod behind policies: in from the load balancer only, out to the pod `friend` and to AWS only."""
    cluster.aws.addresses = {f"127.{cluster.block}.4.1": "10.64.3.7"}
    rules = {
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.64.3.0/26"}}], "ports": [{"port": "http"}]}],
        "egress": [
            {"to": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8000}]},
            {
                "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}],
                "ports": [{"port": 443}],
            },
        ],
    }
    aws = cluster.aws.url.removeprefix("http://")
    cluster.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "web"},
            "spec": {
                "podSelector": {"matchLabels": {"net": "guarded"}},
                "policyTypes": ["Ingress", "Egress"],
                **rules,
            },
        },
        *(
            pod(
                name,
                container={
                    "ports": [{"name": "http", "containerPort": 8000}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
                },
            )
            for name in ("guarded", "friend", "stranger")
        ),
    )
    cluster.kubectl("label", "pod", "guarded", "net=guarded")
    for name in ("guarded", "friend", "stranger"):
        # The kubelet's probe comes through whatever the policies say.
        wait_for(partial(cluster.ready, name))
    targets = [
        f"{cluster.local('friend')}:8000",
        f"{cluster.local('stranger')}:8000",
        f"{cluster.local('guarded')}:8000",
        "169.254.169.254:80",
        aws,
    ]
    for name, labels in (("client", {"net": "guarded"}), ("outsider", {})):
        made = pod(
            name, container={"command": ["python3", "-c", _TRY, *targets], "args": []}, restartPolicy="Never"
        )
        made["metadata"]["labels"] = labels
        cluster.apply(made)
    yield cluster.local("guarded")
    names = ("guarded", "friend", "stranger", "client", "outsider")
    cluster.kubectl("delete", "pod", *names, "--grace-period=1", "--wait=false")
    cluster.kubectl("delete", "networkpolicy", "web")


def _answers(address: str, source: str) -> bool:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(transport=transport, trust_env=False, timeout=5) as client:
        try:
            return client.get(f"http://{address}:8000/").status_code == 200
        except httpx.TransportError:
            return False


def _succeeded(cluster: Cluster, name: str) -> bool:
    return bool(cluster.pod(name)["status"]["phase"] == "Succeeded")


def test_a_node_enforces_policies(cluster: Cluster, web: str) -> None:
    wait_for(lambda: not _answers(web, "127.0.0.1"))
    assert _answers(web, f"127.{cluster.block}.4.1")
    assert not _answers(web, f"127.{cluster.block}.4.2")
    results = {}
    for name in ("client", "outsider"):
        wait_for(partial(_succeeded, cluster, name))
        results[name] = [line.split()[1] for line in cluster.kubectl("logs", name).splitlines()]
    # friend, stranger, a pod that lets in the load balancer only, the metadata address, AWS
    assert results["client"] == ["open", "TimeoutError", "TimeoutError", "TimeoutError", "open"]
    # Without policies of its own it goes everywhere, but not into who does not let it in.
    assert results["outsider"][:3] in (
        ["open", "open", "closed"],
        ["open", "open", "ConnectionResetError"],
    )
    assert results["outsider"][4] == "open"


def test_what_is_open_stays_open(cluster: Cluster) -> None:
    cluster.apply(pod("stays"))
    wait_for(lambda: cluster.ready("stays"))
    address = cluster.local("stays")

    def connect() -> socket.socket | None:
        try:
            return socket.create_connection((address, 8000), 5)
        except OSError:
            return None

    with wait_for(connect) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        deny = {"podSelector": {"matchLabels": {"app": "stays"}}, "policyTypes": ["Ingress"]}
        cluster.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "deny"},
                "spec": deny,
            }
        )
        wait_for(lambda: not _answers(address, "127.0.0.1"))
        connection.sendall(b"\r\n")
        assert b"200" in connection.recv(100)
    cluster.kubectl("delete", "networkpolicy", "deny")
    cluster.kubectl("delete", "pod", "stays", "--grace-period=1")
