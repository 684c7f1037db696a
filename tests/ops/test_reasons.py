"""Why an endpoint does not answer, as its platform and its logs tell it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ops.endpoints import Endpoint
from ops.reasons import Looker, reason_in_log
from ops.smoke import Look

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = """\
INFO 11-21 api_server.py: vLLM API server version 0.32.0
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (9999999) is greater than the derived max_model_len
RuntimeError: Engine core initialization failed. See root cause above.
INFO shutting down"""


class _RunpodApi(BaseHTTPRequestHandler):
    status = "UNHEALTHY"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer rpa_key":
            self.send_error(401)
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/v2/serverless/ep1/workers":
            summary = {"running": 0, "unhealthy": 1, "total": 1}
            workers = [{"id": "w1", "status": self.status}]
            self.wfile.write(json.dumps({"workers": workers, "summary": summary}).encode())
        else:
            assert self.path.startswith("/v2/serverless/ep1/workers/w1/logs?source=container&tail=")
            for line in _LOG.splitlines():
                event = {"source": "container", "line": line, "ts": "2026-11-21T00:00:00Z"}
                self.wfile.write(f"id: 1\ndata: {json.dumps(event)}\n\n".encode())


class _KubernetesApi(BaseHTTPRequestHandler):
    """A cluster with one pod: its container crashed once, or it finds no node."""

    pod: dict[str, Any]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path.startswith("/api/v1/pods"):
            kind, body = "application/json", json.dumps({"kind": "PodList", "items": [self.pod]})
        else:
            assert self.path.startswith("/api/v1/namespaces/berth/pods/vllm-1/log?")
            assert "previous=true" in self.path
            kind, body = "text/plain", _LOG
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def api() -> Iterator[str]:
    with _served(_RunpodApi) as url:
        yield f"{url}/v2"


def _look_at_pod(status: dict[str, Any]) -> Look:
    pod = {
        "metadata": {"name": "vllm-1", "namespace": "berth"},
        "spec": {"containers": [{"name": "vllm"}]},
        "status": status,
    }
    with _served(type("Api", (_KubernetesApi,), {"pod": pod})) as url:
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        return Looker("", {}, json.dumps(kubeconfig))(
            Endpoint("eks", "http://x/v1", "http://x/health", "k", "$K")
        )


def test_a_pod_that_crashed_is_given_up_with_the_error_in_its_log() -> None:
    container = {
        "name": "vllm",
        "image": "i",
        "imageID": "i",
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {"exitCode": 1}},
    }
    seen = _look_at_pod({"phase": "Running", "containerStatuses": [container]})
    assert seen.state == "pod vllm-1: Running, CrashLoopBackOff back-off 10s"
    assert seen.failure is not None
    assert "max_model_len (9999999) is greater" in seen.failure


def test_a_pod_without_a_node_is_waited_for_with_the_schedulers_reason() -> None:
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
    }
    seen = _look_at_pod({"phase": "Pending", "conditions": [unscheduled]})
    assert "Insufficient nvidia.com/gpu" in seen.state
    assert seen.failure is None


def test_pods_that_are_ready_are_not_the_reason() -> None:
    ready = {"type": "Ready", "status": "True"}
    assert _look_at_pod({"phase": "Running", "conditions": [ready]}) == Look("every pod is ready")


def _endpoint(key: str = "rpa_key") -> Endpoint:
    return Endpoint("runpod", "http://x/v1", "http://x/ping", key, "$KEY", "ep1")


def test_a_worker_that_stays_unhealthy_is_given_up_with_the_error_in_its_log(api: str) -> None:
    look = Looker(api, {}, None)
    first = look(_endpoint())
    assert first.state == "workers: 1 unhealthy"
    assert first.failure is None
    look(_endpoint())
    third = look(_endpoint())
    assert third.failure is not None
    assert "max_model_len (9999999) is greater" in third.failure
    assert "rpa_key" not in third.failure


def test_a_worker_that_only_loads_is_waited_for(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_RunpodApi, "status", "INITIALIZING")
    look = Looker(api, {}, None)
    assert [look(_endpoint()).failure for _ in range(5)] == [None] * 5


def test_an_api_that_refuses_is_said_and_does_not_end_the_wait(api: str) -> None:
    seen = Looker(api, {}, None)(_endpoint("wrong"))
    assert "does not tell about its workers" in seen.state
    assert seen.failure is None


def test_the_last_error_of_a_log_is_its_reason_and_else_its_last_lines() -> None:
    assert reason_in_log(_LOG.splitlines()).startswith("pydantic_core._pydantic_core.ValidationError")
    assert reason_in_log([str(number) for number in range(9)]) == "4\n5\n6\n7\n8"


def test_a_cluster_that_does_not_answer_is_said_and_does_not_end_the_wait(
    capfd: pytest.CaptureFixture[str],
) -> None:
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    seen = Looker("", {}, json.dumps(kubeconfig))(
        Endpoint("eks", "http://x/v1", "http://x/health", "k", "$K")
    )
    assert "the cluster does not tell about its pods" in seen.state
    assert seen.failure is None
    assert capfd.readouterr().err == ""
