"""`berth logs` of a stack on EKS, against a Kubernetes API that has two pods of the model."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.ops.runpod_platform import running, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ops.conftest import Project

SERVED = {
    "runpod": {"url": "http://127.0.0.1:9/v1", "health": "http://127.0.0.1:9/ping", "id": "ep1"},
    "eks": {"url": "http://127.0.0.1:9/v1", "health": "http://127.0.0.1:9/health"},
}


@dataclass
class Cluster:
    """What the Kubernetes API knows.

    Args:
        pods: each pod's name with how often its container was restarted, or None while it has not started.
        lines: what each pod has written.
        asked: the query of every request for a log.
    """

    pods: dict[str, int | None] = field(default_factory=lambda: {"model-1": 0, "model-2": 0})
    lines: dict[str, list[str]] = field(default_factory=lambda: {"model-1": ["one"], "model-2": ["two"]})
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""
    token: str = "a-token"

    def outputs(self) -> dict[str, object]:
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        return {"endpoints": SERVED, "api_key": "k", "kubeconfig": json.dumps(kubeconfig)}


class _Api(BaseHTTPRequestHandler):
    cluster: Cluster

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if self.headers["Authorization"] != "Bearer a-token":
            self._answer(401, {"kind": "Status", "reason": "Unauthorized", "code": 401})
        elif url.path == "/api/v1/namespaces/berth/pods":
            assert query["labelSelector"] == ["app.kubernetes.io/name=model"]
            items = [_pod(name, restarts) for name, restarts in self.cluster.pods.items()]
            self._answer(200, {"kind": "PodList", "items": items})
        else:
            self.cluster.asked.append(query)
            lines = self.cluster.lines[url.path.split("/")[-2]]
            tail = int(query["tailLines"][0])
            text = "".join(f"{line}\n" for line in lines[len(lines) - min(tail, len(lines)) :])
            self._answer(200, text)

    def _answer(self, status: int, body: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if body is text else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def _pod(name: str, restarts: int | None) -> dict[str, Any]:
    state = {"waiting": {"reason": "ContainerCreating"}} if restarts is None else {"running": {}}
    status = {
        "name": "vllm",
        "image": "i",
        "imageID": "i",
        "ready": True,
        "restartCount": restarts or 0,
        "state": state,
    }
    return {
        "metadata": {"name": name, "namespace": "berth"},
        "spec": {"containers": [{"name": "vllm"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Api", (_Api,), {"cluster": cluster}))
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_lines_of_every_pod_that_has_started_are_shown(programs: Project, cluster: Cluster) -> None:
    cluster.pods |= {"model-2": 3, "model-3": None}
    variables = programs.pulumi(cluster.outputs())
    said = typed("logs", "--stack", "dev", "--platform", "eks", "--tail", "7", variables=variables).stdout
    assert said == "model-1 | one\nmodel-2, restart 3 | two\n"
    assert [query["tailLines"] for query in cluster.asked] == [["7"], ["7"]]
    assert (
        typed(
            "logs", "--stack", "dev", "--platform", "eks", "--worker", "model-2", variables=variables
        ).stdout
        == "two\n"
    )


def test_pods_need_no_key_of_runpod(programs: Project, cluster: Cluster) -> None:
    variables = programs.pulumi(cluster.outputs()) | {"RUNPOD_API_KEY": ""}
    assert "one" in typed("logs", "--stack", "dev", "--platform", "eks", variables=variables).stdout
    assert (
        "RUNPOD_API_KEY is not set"
        in typed("logs", "--stack", "dev", variables=variables, exit_status=1).stderr
    )


def test_a_pod_that_comes_or_is_restarted_while_following_is_followed(
    programs: Project, cluster: Cluster
) -> None:
    cluster.pods = {"model-1": 0}
    with running(programs.pulumi(cluster.outputs()), "logs", "--platform", "eks", "--follow") as following:
        following.until("model-1 | one")
        cluster.lines["model-1"] = ["again"]
        cluster.pods = {"model-2": 0, "model-1": 1}
        seen = following.until("model-1, restart 1 | again")
        if "model-2 | two" not in seen:
            following.until("model-2 | two")


def test_a_cluster_that_refuses_is_told_without_its_token(programs: Project, cluster: Cluster) -> None:
    cluster.token = "of-somebody-else"
    said = typed(
        "logs",
        "--stack",
        "dev",
        "--platform",
        "eks",
        exit_status=1,
        variables=programs.pulumi(cluster.outputs()),
    )
    assert "the cluster does not tell about its pods: 401 Unauthorized" in said.stderr
    assert "of-somebody-else" not in said.stderr


def test_what_runpod_says_about_workers_is_not_asked_of_eks(programs: Project, cluster: Cluster) -> None:
    variables = programs.pulumi(cluster.outputs())
    arguments = ("logs", "--stack", "dev", "--platform", "eks", "--source", "system")
    assert "EKS has none" in typed(*arguments, exit_status=2, variables=variables).stderr
