"""A node registers as on a real cluster, and the scheduler heeds what it says."""

from __future__ import annotations

from tests.sandbox_kubernetes.conftest import GPU_TAINT, Cluster, pod, wait_for


def test_the_node_registers_with_labels_taint_and_gpus(cluster: Cluster) -> None:
    node = cluster.get("node", "gpu-1")
    assert node["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    assert node["spec"]["providerID"] == "aws:///us-east-1a/i-0123456789abcdef0"
    assert GPU_TAINT in node["spec"]["taints"]
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"
    ready = next(entry for entry in node["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "True"
    lease = cluster.kubectl("-n", "kube-node-lease", "get", "lease", "gpu-1", "-o", "name")
    assert lease.strip().endswith("gpu-1")


def test_a_pod_runs_and_one_without_toleration_stays_pending(cluster: Cluster) -> None:
    refused = pod("no-toleration", tolerations=[])
    cluster.apply(pod("tolerant"), refused)
    wait_for(lambda: cluster.ready("tolerant"))
    assert cluster.pod("no-toleration")["status"]["phase"] == "Pending"
    assert "untolerated taint" in wait_for(lambda: cluster.kubectl("describe", "pod", "no-toleration"))
    assert cluster.kubectl("logs", "tolerant").startswith("listening")
    cluster.kubectl("delete", "pod", "tolerant", "no-toleration")
