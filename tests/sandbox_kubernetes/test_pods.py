"""A pod's containers get what its spec says, and `kubectl` tells what became of them."""

from __future__ import annotations

import json
import time
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client, config
from kubernetes.stream import portforward

from tests.sandbox_kubernetes.conftest import Cluster, pod, wait_for


def ask(cluster: Cluster, name: str, path: str = "/", port: int = 8000) -> Any:
    """Return what the program answers; None while it does not listen yet."""
    try:
        return httpx.get(f"http://{cluster.local(name)}:{port}{path}", trust_env=False, timeout=5).json()
    except httpx.ConnectError:
        return None


def test_a_port_is_forwarded_from_inside_of_the_pod(cluster: Cluster) -> None:
    cluster.apply(pod("forwarded"))
    wait_for(lambda: cluster.ready("forwarded"))
    wait_for(lambda: ask(cluster, "forwarded"))
    api = client.CoreV1Api(config.new_client_from_config(cluster.kubeconfig))
    forward = partial(portforward, api.connect_get_namespaced_pod_portforward, "forwarded", "default")

    forwarded = forward(ports="8000")
    connection = HTTPConnection("forwarded")
    connection.sock = forwarded.socket(8000)
    connection.sock.settimeout(20)
    connection.request("GET", "/", headers={"Connection": "close"})
    assert json.loads(connection.getresponse().read())["argv"] == ["8000"]
    forwarded.close()

    nobody = forward(ports="8999")
    nobody.socket(8999).settimeout(20)
    assert nobody.socket(8999).recv(1) == b""
    assert "an error occurred forwarding 8999" in nobody.error(8999)
    nobody.close()


def test_arguments_environment_and_volumes_arrive(cluster: Cluster) -> None:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "key"},
            "stringData": {"api-key": "sesame"},
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"MODE": "fast"}},
        pod(
            "env",
            container={
                "args": ["$(PORT)", "--api-key=$(API_KEY)", "$$(PORT)", "$(UNKNOWN)", "/conf/MODE"],
                "env": [
                    {"name": "PORT", "value": "8000"},
                    {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "api-key"}}},
                    {"name": "MODE2", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "MODE"}}},
                    {
                        "name": "NONE",
                        "valueFrom": {"secretKeyRef": {"name": "key", "key": "none", "optional": True}},
                    },
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {
                        "name": "MEMORY",
                        "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
                    },
                    {"name": "CACHE", "value": "/cache/models"},
                ],
                "envFrom": [{"configMapRef": {"name": "conf"}, "prefix": "C_"}],
                "resources": {"limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}},
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/conf"},
                    {"name": "cache", "mountPath": "/cache"},
                ],
            },
            volumes=[
                {"name": "conf", "configMap": {"name": "conf"}},
                {"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            ],
        ),
    )
    wait_for(lambda: cluster.ready("env"))
    answer = wait_for(lambda: ask(cluster, "env"))
    env, argv = answer["env"], answer["argv"]
    assert argv[:4] == ["8000", "--api-key=sesame", "$(PORT)", "$(UNKNOWN)"]
    assert Path(argv[4]).read_text() == "fast"
    assert env["MODE2"] == env["C_MODE"] == "fast"
    assert "NONE" not in env
    assert (env["POD"], env["NODE"], env["MEMORY"]) == ("env", "gpu-1", "1024")
    # What the program listens on is behind the pod's own address, where its gate is.
    assert env["IP"] == env["BERTH_HOST"] != cluster.local("env")
    assert env["FROM_IMAGE"] == "yes"
    assert env["NVIDIA_VISIBLE_DEVICES"] in {"0", "1"}
    assert Path(env["CACHE"]).parent.is_dir()
    assert not any(name.startswith("VLLM_PORT") for name in env)
    status = cluster.container("env")
    assert status["imageID"].startswith("123456789012.dkr.ecr.us-east-1.amazonaws.com/berth@sha256:")
    folder = cluster.directory / "gpu-1" / "pods" / cluster.pod("env")["metadata"]["uid"]
    assert folder.is_dir()
    cluster.kubectl("delete", "pod", "env")
    wait_for(lambda: not folder.exists())


def test_startup_gates_readiness_and_liveness_restarts(cluster: Cluster) -> None:
    def probe(path: str, **options: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, **options}

    cluster.apply(
        pod(
            "probed",
            container={
                "ports": [{"name": "http", "containerPort": 8000}],
                "env": [{"name": "LOAD_SECONDS", "value": "2"}],
                "startupProbe": probe("/healthz", failureThreshold=30),
                # Without the startup probe this would restart the container while it loads.
                "livenessProbe": probe("/healthz", failureThreshold=1),
                "readinessProbe": probe("/readyz", failureThreshold=1),
            },
        )
    )
    wait_for(lambda: "running" in cluster.container("probed").get("state", {}))
    assert not cluster.ready("probed")
    wait_for(lambda: cluster.ready("probed"))
    assert cluster.container("probed")["restartCount"] == 0
    ask(cluster, "probed", "/busy")
    wait_for(lambda: not cluster.ready("probed"))
    ask(cluster, "probed", "/idle")
    wait_for(lambda: cluster.ready("probed"))
    ask(cluster, "probed", "/sick")
    wait_for(lambda: cluster.container("probed")["restartCount"] == 1)
    wait_for(lambda: cluster.ready("probed"))
    described = cluster.kubectl("describe", "pod", "probed")
    assert "Liveness probe failed: HTTP probe failed with statuscode: 503" in described
    assert "Container app failed liveness probe, will be restarted" in described
    assert "SIGTERM after" in cluster.kubectl("logs", "probed", "--previous")
    cluster.kubectl("delete", "pod", "probed")


def test_a_crashing_container_backs_off_and_says_why(cluster: Cluster) -> None:
    cluster.apply(pod("crash", container={"args": ["exit", "3", "out of luck"]}))
    waiting = wait_for(lambda: cluster.container("crash").get("state", {}).get("waiting", {}).get("message"))
    wait_for(
        lambda: (
            cluster.container("crash").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
    )
    status = cluster.container("crash")
    waiting = status["state"]["waiting"]["message"]
    assert waiting.startswith("back-off 10s restarting failed container=app pod=crash_default(")
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["message"] == "out of luck"
    assert "Back-off restarting failed container app" in wait_for(
        lambda: cluster.kubectl("describe", "pod", "crash")
    )
    assert "ending 3" in cluster.kubectl("logs", "crash", "--previous")
    cluster.kubectl("delete", "pod", "crash")


def _described(cluster: Cluster, name: str, *parts: str) -> bool:
    description = cluster.kubectl("describe", "pod", name)
    return all(part in description for part in parts)


def test_reasons_reach_describe(cluster: Cluster) -> None:
    secret = {"secretKeyRef": {"name": "absent", "key": "k"}}
    cluster.apply(
        pod("no-secret", container={"env": [{"name": "K", "valueFrom": secret}]}),
        pod("no-image", container={"image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/none:1"}),
        pod("host-network", hostNetwork=True),
        pod("no-volume", volumes=[{"name": "v", "secret": {"secretName": "absent2"}}]),
        pod("root", container={"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}),
        pod("no-program", container={"command": ["/bin/absent"]}),
    )
    for name, reason, words in (
        ("no-secret", "CreateContainerConfigError", 'secret "absent" not found'),
        ("no-image", "ErrImagePull", "MANIFEST_UNKNOWN"),
        ("host-network", "CreateContainerConfigError", "spec.hostNetwork"),
        ("no-volume", "ContainerCreating", 'secret "absent2" not found'),
        ("root", "CreateContainerConfigError", "breaks non-root policy"),
        ("no-program", "CrashLoopBackOff", "not found"),
    ):
        wait_for(partial(_described, cluster, name, reason, words))
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "absent"}, "stringData": {"k": "v"}}
    )
    wait_for(lambda: cluster.ready("no-secret"))
    cluster.kubectl(
        "delete", "pod", "no-secret", "no-image", "host-network", "no-volume", "root", "no-program"
    )


def test_pods_that_end(cluster: Cluster) -> None:
    note = {"name": "note", "mountPath": "/note"}
    shared = [{"name": "note", "emptyDir": {}}]
    first = {
        **pod("x")["spec"]["containers"][0],
        "name": "first",
        "command": ["python3", "-c", "import sys; open(sys.argv[1], 'w').write('was here')", "/note/text"],
        "volumeMounts": [note],
    }
    second = {
        "command": ["python3", "-c", "import sys; print(open(sys.argv[1]).read())", "/note/text"],
        "volumeMounts": [note],
    }
    cluster.apply(
        pod("done", container=second, initContainers=[first], volumes=shared, restartPolicy="Never"),
        pod(
            "failed",
            container={"args": ["exit", "7"], "terminationMessagePolicy": "FallbackToLogsOnError"},
            restartPolicy="Never",
        ),
    )
    wait_for(lambda: cluster.pod("done")["status"]["phase"] == "Succeeded")
    assert cluster.kubectl("logs", "done") == "was here\n"
    wait_for(lambda: cluster.pod("failed")["status"]["phase"] == "Failed")
    assert cluster.container("failed")["state"]["terminated"]["message"] == "ending 7\n"
    assert cluster.container("failed")["restartCount"] == 0
    cluster.kubectl("delete", "pod", "done", "failed")


def test_deletion_runs_the_hook_drains_and_keeps_to_the_grace(cluster: Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hook = {"exec": {"command": ["python3", "-c", f"import time; time.sleep(1); open({str(mark)!r}, 'w')"]}}
    cluster.apply(
        pod(
            "polite",
            container={"env": [{"name": "DRAIN_SECONDS", "value": "1"}], "lifecycle": {"preStop": hook}},
            terminationGracePeriodSeconds=30,
        ),
        pod(
            "stubborn",
            container={"env": [{"name": "DRAIN_SECONDS", "value": "600"}]},
            terminationGracePeriodSeconds=3,
        ),
    )
    for name in ("polite", "stubborn"):
        wait_for(partial(cluster.ready, name))
        wait_for(partial(cluster.kubectl, "logs", name))
    for name, least, most in (("polite", 2.0, 12.0), ("stubborn", 3.0, 8.0)):
        began = time.monotonic()
        cluster.kubectl("delete", "pod", name)
        took = time.monotonic() - began
        assert least <= took <= most
    assert mark.exists()


def test_logs_are_followed_and_cut(cluster: Cluster) -> None:
    lines = "import time\nfor n in range(5): print('line', n, flush=True); time.sleep(0.3)"
    cluster.apply(pod("log", container={"command": ["python3", "-c", lines]}, restartPolicy="Never"))
    wait_for(lambda: "running" in cluster.container("log").get("state", {}))
    assert cluster.kubectl("logs", "-f", "log").splitlines() == [f"line {n}" for n in range(5)]
    assert cluster.kubectl("logs", "--tail", "2", "log").splitlines() == ["line 3", "line 4"]
    assert "not supported" in cluster.kubectl("logs", "--timestamps", "log", check=False)
    cluster.kubectl("delete", "pod", "log")


def test_gpus_are_not_given_twice(cluster: Cluster) -> None:
    one = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    names = ("gpu-a", "gpu-b", "gpu-c")
    cluster.apply(*(pod(name, container=one) for name in names))
    wait_for(lambda: sum(cluster.ready(name) for name in names) == 2)
    ready = [name for name in names if cluster.ready(name)]
    seen = {wait_for(partial(ask, cluster, name))["env"]["NVIDIA_VISIBLE_DEVICES"] for name in ready}
    assert seen == {"0", "1"}
    (left,) = set(names) - set(ready)
    assert "Insufficient nvidia.com/gpu" in json.dumps(cluster.pod(left)["status"])
    cluster.kubectl("delete", "pod", *names)
