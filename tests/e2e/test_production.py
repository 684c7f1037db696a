"""The stack `prod` cut to this machine: what its users notice of rollouts, failures and interruptions."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.timing import PRE_STOP_SECONDS
from tests.e2e.load import Load
from tests.e2e.shapes import cut

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e

_GROUPS = {
    "ondemand": {"instance_types": ["g6e.2xlarge"], "desired": 1, "min": 1, "max": 1},
    "spot": {"instance_types": ["g6e.2xlarge"], "capacity_type": "SPOT", "desired": 1, "max": 1},
}
_NOTICE_SECONDS = 60


@pytest.fixture(scope="module")
def prod(clone: Clone) -> Clone:
    """Bring up prod's shape with two replicas: one on an on-demand machine, one on a spot machine."""

    def shape(config: dict[str, Any]) -> None:
        config.update(cut(clone.root / "stacks", "prod"))
        config["berth:eks"]["gpu_node_groups"] = _GROUPS

    clone.edit(shape)
    clone.run("up", "--stack", "local", "--yes", "--no-smoke")
    return clone


def test_who_has_no_access_entry_is_not_let_in(prod: Clone) -> None:
    prod.aws("iam", "create-user", "--user-name", "stranger")
    key = prod.aws("iam", "create-access-key", "--user-name", "stranger")["AccessKey"]
    stranger = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    refused = prod.try_kubectl("get", "pods", "-n", "berth", **stranger)
    assert refused.returncode != 0
    assert "Unauthorized" in refused.stderr or "must be logged in" in refused.stderr
    assert "model-" in prod.kubectl("get", "pods", "-n", "berth")


def _load(clone: Clone) -> Load:
    outputs = clone.json("output", "--stack", "local", "--show-secrets")
    return Load(outputs["endpoints"]["eks"]["url"], outputs["api_key"], outputs["model"])


def _pods(clone: Clone) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(
        clone.kubectl("get", "pods", "-n", "berth", "-l", "app.kubernetes.io/name=model", "-o", "json")
    )["items"]
    return listed


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@retry(
    retry=retry_if_exception_type(AssertionError),
    stop=stop_after_delay(240),
    wait=wait_fixed(3),  # each look starts kubectl, and that `aws`, beside servers that start
    reraise=True,
)
def _wait_for_ready(clone: Clone, *, replicas: int, without: frozenset[str] = frozenset()) -> None:
    """Wait until that many pods are ready, none of them among `without`."""
    ready = {pod["metadata"]["uid"] for pod in _pods(clone) if _is_ready(pod)}
    assert len(ready) == replicas, f"{len(ready)} pods are ready"
    assert not ready & without


def test_nothing_changes_a_second_time(prod: Clone) -> None:
    steps = prod.json("preview", "--stack", "local")["steps"]
    assert [step["urn"] for step in steps if step["op"] != "same"] == []


def test_a_rollout_under_load_loses_no_request(prod: Clone) -> None:
    before = frozenset(pod["metadata"]["uid"] for pod in _pods(prod))
    prod.edit(lambda config: config["berth:serving"].update(max_num_seqs=6))
    with _load(prod) as load:
        prod.run("up", "--stack", "local", "--yes", "--no-smoke")
    assert load.lost == []
    _wait_for_ready(prod, replicas=2, without=before)


def test_a_wrong_argument_fails_the_rollout_with_vllms_reason_and_the_old_pod_serves_on(prod: Clone) -> None:
    good = prod.stack_file.read_text()
    prod.edit(lambda config: config["berth:model"].update(max_model_len=9_999_999))
    with _load(prod) as load:
        output = prod.run("up", "--stack", "local", "--yes", "--no-smoke", exit_status=1)
    assert "max_model_len" in output
    assert "9999999" in output.replace(",", "")
    assert load.lost == []
    prod.stack_file.write_text(good)
    prod.run("up", "--stack", "local", "--yes", "--no-smoke")
    _wait_for_ready(prod, replicas=2)


def test_a_pod_killed_without_grace_is_replaced_and_the_other_one_serves(prod: Clone) -> None:
    pods = _pods(prod)
    victim = pods[0]["metadata"]
    with _load(prod) as load:
        prod.kubectl("delete", "pod", "-n", "berth", victim["name"], "--force", "--grace-period=0")
        _wait_for_ready(prod, replicas=2, without=frozenset([victim["uid"]]))
    # Lost is what was in flight on it, and what came until the load balancer noticed.
    assert load.outage_seconds <= PRE_STOP_SECONDS, load.lost
    assert load.answered > len(load.lost)


def test_a_spot_machine_is_drained_within_its_notice_and_no_request_is_lost(prod: Clone) -> None:
    (node,) = json.loads(
        prod.kubectl("get", "nodes", "-l", "eks.amazonaws.com/capacityType=SPOT", "-o", "json")
    )["items"]
    before = frozenset(
        pod["metadata"]["uid"] for pod in _pods(prod) if pod["spec"]["nodeName"] == node["metadata"]["name"]
    )
    assert len(before) == 1
    instance = node["spec"]["providerID"].rpartition("/")[2]
    with _load(prod) as load:
        prod.admin("POST", "interruptions", {"instance_id": instance, "seconds": _NOTICE_SECONDS})
        _wait_for_ready(prod, replicas=2, without=before)
    assert load.lost == []
    names = [
        item["metadata"]["name"] for item in json.loads(prod.kubectl("get", "nodes", "-o", "json"))["items"]
    ]
    assert node["metadata"]["name"] not in names


_UNGUARDED = (
    "/metrics",
    "/version",
    "/docs",
    "/openapi.json",
    "/tokenize",
    "/detokenize",
    "/pause",
    "/resume",
    "/abort_requests",
    "/load",
    "/ping",
    "/classify",
    "/score",
    "/rerank",
    "/pooling",
    "/invocations",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/messages",
    "/v1/models/../../metrics",
    "/V1/models",
)


@pytest.fixture(scope="module")
def outputs(prod: Clone) -> dict[str, Any]:
    found: dict[str, Any] = prod.json("output", "--stack", "local", "--show-secrets")
    return found


@pytest.mark.parametrize("path", _UNGUARDED)
def test_the_load_balancer_passes_nothing_that_the_task_does_not_need(
    outputs: dict[str, Any], path: str
) -> None:
    base = outputs["endpoints"]["eks"]["url"].removesuffix("/v1")
    headers = {"Authorization": f"Bearer {outputs['api_key']}"}
    for method in ("GET", "POST"):
        request = httpx.Request(method, f"{base}/", headers=headers)
        request.url = request.url.copy_with(raw_path=path.encode())
        with httpx.Client(timeout=30) as http:
            assert http.send(request).status_code == 404, method


# Prints for each "host:port" whether anything answers there within three seconds.
_TRY = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3) as connection:
            connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            answered = bool(connection.recv(1))
    except OSError:
        answered = False
    print(target, "open" if answered else "refused")
"""


def _tried(prod: Clone, namespace: str, labels: dict[str, str], targets: list[str]) -> dict[str, str]:
    """Return what a pod with these labels gets from these places."""
    name = f"probe-{len(labels)}"
    container = {
        "name": "probe",
        "image": prod.json("output", "--stack", "local")["image"],
        "command": ["python3", "-c", _TRY, *targets],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            # Never one of the Service's: it serves nothing.
            "readinessGates": [{"conditionType": "example.com/never"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 2000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }
    manifest = prod.root / ".sandbox" / "probe.json"
    manifest.write_text(json.dumps(pod))
    prod.kubectl("apply", "-f", str(manifest))
    prod.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded")
    output = prod.kubectl("logs", "-n", namespace, name)
    prod.kubectl("delete", "pod", "-n", namespace, name)
    return dict(line.split() for line in output.splitlines())


_MODEL = {"app.kubernetes.io/name": "model"}


def test_the_network_policy_lets_nobody_in_but_the_load_balancer_and_the_model_out_to_https_only(
    prod: Clone,
) -> None:
    network = f"127.{prod.block}"
    # As the cluster knows it by another first number, Kubernetes takes no loopback address.
    model = f"{network}.{_pods(prod)[0]['status']['podIP'].partition('.')[2].partition('.')[2]}:8000"
    aws = f"{network}.0.1:4566"  # stands for a public address, port 443
    api = f"{network}.0.3:6443"  # the cluster's, a private address
    # Where no policy is, all is open but the model.
    assert _tried(prod, "default", {}, [model, aws, api]) == {
        model: "refused",
        **dict.fromkeys([aws, api], "open"),
    }
    closed = dict.fromkeys([model, api], "refused")
    assert _tried(prod, "berth", _MODEL, [model, aws, api]) == {**closed, aws: "open"}
    assert _tried(prod, "berth", {}, [model, aws, api]) == {**closed, aws: "refused"}


def test_destroy_leaves_nothing(prod: Clone) -> None:
    interrupted = prod.popen("destroy", "--stack", "local", "--yes")
    prod.wait_for_line(interrupted, "nodes-system deleting")
    os.killpg(interrupted.pid, signal.SIGKILL)
    interrupted.wait()
    prod.destroy()
