"""A NodePort leads to the ready pods of its Service, and only to those."""

from __future__ import annotations

from typing import Any

import httpx

from tests.sandbox_kubernetes.conftest import Cluster, pod, wait_for


def test_node_port_follows_readiness(cluster: Cluster) -> None:
    template = pod(
        "web",
        container={
            "readinessProbe": {
                "httpGet": {"path": "/readyz", "port": 8000},
                "periodSeconds": 1,
                "failureThreshold": 1,
            }
        },
    )
    deployment: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8000}],
        },
    }
    cluster.apply(deployment, service)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    port = cluster.get("service", "web")["spec"]["ports"][0]["nodePort"]
    url = f"http://127.{cluster.block}.1.1:{port}"

    def hosts(path: str = "/", count: int = 8) -> set[str]:
        try:
            return {
                httpx.get(f"{url}{path}", trust_env=False, timeout=5).json()["env"]["HOSTNAME"]
                for _ in range(count)
            }
        except httpx.TransportError:
            return set()

    wait_for(lambda: len(hosts()) == 2)
    (busy,) = hosts("/busy", 1)
    wait_for(lambda: len(hosts()) == 1)
    assert busy not in hosts()
    cluster.kubectl("delete", "deployment", "web")
    wait_for(lambda: not hosts())
    cluster.kubectl("delete", "service", "web")

    def closed() -> bool:
        try:
            httpx.get(url, trust_env=False, timeout=5)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False

    wait_for(closed)
