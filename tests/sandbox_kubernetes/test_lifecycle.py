"""Control plane and nodes come and go without leaving a process, and come back as they were."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from sandbox.kubernetes import binaries
from tests.sandbox_kubernetes.conftest import PROJECT, Cluster, Service, pod, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Reviewer(BaseHTTPRequestHandler):
    """Answers TokenReviews: one token is a cluster administrator's by its group."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = review["spec"]["token"] == "k8s-aws-v1.good"
        user = {"username": "arn:aws:iam::1:user/deployer", "groups": ["eks:AmazonEKSClusterAdminPolicy"]}
        review["status"] = {"authenticated": good, **({"user": user} if good else {})}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reviewer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/token-review"
    server.shutdown()
    server.server_close()


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=0)[1]


def test_the_control_plane_comes_back_as_it_was(tmp_path: Path, block: int, webhook: str) -> None:
    # Another address than the shared cluster's, in the same block.
    host = f"127.{block}.0.9"

    def start() -> Service:
        return Service(
            "sandbox.kubernetes",
            *("--dir", tmp_path / "plane", "--host", host, "--token-webhook", webhook),
            log=tmp_path / "log",
        )

    def kubectl(*arguments: str) -> str:
        return subprocess.run(
            [binaries.directory() / "kubectl", "--kubeconfig", ready["admin_kubeconfig"], *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    plane = start()
    ready = plane.ready
    try:
        assert ready["version"] == binaries.version()
        assert f"Server Version: {binaries.version()}" in kubectl("version")

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            url = f"{ready['endpoint']}/api/v1/nodes"
            authority = ssl.create_default_context(
                cadata=base64.b64decode(ready["certificate_authority_data"]).decode()
            )
            return httpx.get(url, headers=headers, verify=authority, trust_env=False).status_code

        assert status("k8s-aws-v1.good") == 200
        assert status("k8s-aws-v1.bad") == 401
        kubectl("create", "configmap", "kept", "--from-literal=a=b")

        taken = subprocess.run(
            [sys.executable, "-m", "sandbox.kubernetes", "--dir", tmp_path / "other", "--host", host],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert taken.returncode == 1
        assert f"{host}:2379 cannot be listened on" in taken.stderr
        assert "Traceback" not in taken.stderr

        (scheduler,) = [process for process in plane.below() if process.name() == "kube-scheduler"]
        scheduler.kill()
        wait_for(lambda: "kube-scheduler ended with status -9: starting it again" in plane.log.read_text())
        wait_for(lambda: any(process.name() == "kube-scheduler" for process in plane.below()))

        below = plane.below()
        assert plane.stop() == 0
        wait_for(lambda: gone(below), 5)

        plane = start()
        assert plane.ready == ready
        assert "kept" in kubectl("get", "configmaps")
        below = plane.below()
        assert len(below) == 4
    finally:
        plane.popen.kill()
    wait_for(lambda: gone(below))


def test_a_killed_node_leaves_nothing_and_comes_back(cluster: Cluster) -> None:
    node = cluster.add_node("cpu-1", 9, "--labels", "role=cpu")
    cluster.apply(pod("survivor", nodeSelector={"role": "cpu"}))
    wait_for(lambda: cluster.ready("survivor"))
    below = node.below()
    assert below
    os.kill(node.popen.pid, signal.SIGKILL)
    wait_for(lambda: gone(below), 5)
    node.popen.wait()
    assert cluster.pod("survivor")["status"]["phase"] == "Running"

    node = cluster.add_node("cpu-1", 9, "--labels", "role=cpu")
    status = wait_for(
        lambda: (
            cluster.container("survivor")
            if cluster.container("survivor")["restartCount"] == 1 and cluster.ready("survivor")
            else None
        )
    )
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    below = node.below()
    assert node.stop() == 0
    # Who was killed after its parent is reaped by the machine's first process, in its own time.
    wait_for(lambda: gone(below), 5)
    ready = next(c for c in cluster.get("node", "cpu-1")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "False"
    cluster.kubectl("delete", "pod", "survivor", "--force", "--grace-period=0")
    cluster.kubectl("delete", "node", "cpu-1")


def programs(cluster: Cluster, name: str) -> list[psutil.Process]:
    """Return the processes of the test image's program in a pod, without their shim."""
    found = []
    for process in cluster.nodes["gpu-1"].below():
        with contextlib.suppress(psutil.NoSuchProcess):
            own = process.environ().get("HOSTNAME") == name
            if (
                own
                and "app.py" in " ".join(process.cmdline())
                and "shim.py" not in " ".join(process.cmdline())
            ):
                found.append(process)
    return found


def test_a_killed_program_is_restarted_and_a_forced_deletion_is_immediate(cluster: Cluster) -> None:
    slow = {"env": [{"name": "DRAIN_SECONDS", "value": "600"}]}
    cluster.apply(pod("killed", container=slow, terminationGracePeriodSeconds=600))
    wait_for(lambda: cluster.ready("killed"))
    (program,) = wait_for(lambda: programs(cluster, "killed"))
    program.kill()
    wait_for(lambda: cluster.container("killed")["restartCount"] == 1 and cluster.ready("killed"))
    assert cluster.container("killed")["lastState"]["terminated"]["exitCode"] == 137
    wait_for(lambda: "listening" in cluster.kubectl("logs", "killed"))
    below = programs(cluster, "killed")
    cluster.kubectl("delete", "pod", "killed", "--force", "--grace-period=0")
    assert "NotFound" in cluster.kubectl("get", "pod", "killed", check=False)
    wait_for(lambda: gone(below), 20)


def test_a_drained_node_has_no_pods(cluster: Cluster) -> None:
    node = cluster.add_node("cpu-2", 10, "--labels", "role=drained")
    cluster.apply(pod("evicted", nodeSelector={"role": "drained"}))
    wait_for(lambda: cluster.ready("evicted"))
    cluster.kubectl("drain", "cpu-2", "--force", "--ignore-daemonsets", "--delete-emptydir-data")
    assert "evicted" not in cluster.kubectl("get", "pods", "--no-headers")
    wait_for(lambda: not node.below())
    assert node.stop() == 0
    cluster.kubectl("delete", "node", "cpu-2")


def test_a_node_outlives_its_api_server(cluster: Cluster) -> None:
    (server,) = [process for process in cluster.plane.below() if process.name() == "kube-apiserver"]
    server.kill()
    wait_for(lambda: "ok" in cluster.kubectl("get", "--raw", "/readyz", check=False))
    cluster.apply(pod("later"))
    wait_for(lambda: cluster.ready("later"))
    cluster.kubectl("delete", "pod", "later")
