"""A Service with local traffic only: sources are kept, health follows readiness, a draining pod serves."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.sandbox_kubernetes.conftest import Cluster, pod, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def health(cluster: Cluster, number: int) -> tuple[int, dict[str, Any]] | None:
    """Return what a node says to a load balancer; None while the port is not open."""
    try:
        answer = httpx.get(f"http://127.{cluster.block}.1.{number}:31081/healthz", trust_env=False, timeout=5)
    except httpx.TransportError:
        return None
    return answer.status_code, answer.json()


def test_a_local_service_drains_without_a_lost_request(cluster: Cluster, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    wait = f"import os, time\nwhile not os.path.exists({str(enough)!r}): time.sleep(0.1)"
    cluster.add_node("empty", 7, "--labels", "role=empty")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "local"},
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "berth/graph",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 31081,
            "selector": {"app": "local"},
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 31080}],
        },
    }
    probe = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    container = {
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": probe,
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", wait]}}},
    }
    cluster.apply(service, pod("local", container=container, terminationGracePeriodSeconds=120))
    wait_for(lambda: cluster.ready("local"))
    wait_for(lambda: (health(cluster, 1) or [0])[0] == 200)
    named = {"service": {"namespace": "default", "name": "local"}, "serviceProxyHealthy": True}
    assert health(cluster, 1) == (200, {**named, "localEndpoints": 1})
    assert wait_for(lambda: health(cluster, 7)) == (503, {**named, "localEndpoints": 0})

    source = f"127.{cluster.block}.4.9"
    with socket.create_connection((f"127.{cluster.block}.1.1", 31080), 5, (source, 0)) as kept:

        def ask() -> dict[str, Any]:
            kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = kept.recv(1 << 20).partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(body) < length:
                body += kept.recv(1 << 20)
            answer: dict[str, Any] = json.loads(body)
            return answer

        assert ask()["peer"] == source
        # The node without a pod has nowhere to go.
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.{cluster.block}.1.7:31080", trust_env=False, timeout=5)

        deletion = threading.Thread(target=cluster.kubectl, args=("delete", "pod", "local"))
        deletion.start()
        wait_for(lambda: (health(cluster, 1) or [0])[0] == 503)
        # No longer offered, still serving: on what is open and on new connections.
        assert ask()["peer"] == source
        url = f"http://127.{cluster.block}.1.1:31080"
        assert httpx.get(url, trust_env=False, timeout=5).status_code == 200
        enough.touch()
        deletion.join()
    cluster.kubectl("delete", "service", "local")
    wait_for(lambda: health(cluster, 1) is None)
    assert cluster.nodes.pop("empty").stop() == 0
    cluster.kubectl("delete", "node", "empty")
