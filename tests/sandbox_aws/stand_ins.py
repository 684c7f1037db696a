"""Stand-ins for the Kubernetes programs, and the sandbox started with them: the AWS side alone is under test.

Usage: stand_ins.py serve|kubernetes|node ARGUMENTS
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class _Api(BaseHTTPRequestHandler):
    """Just enough of the Kubernetes API: every change is written down.

    The pods are those in the file `pods.json`; an eviction takes one away, but not one with the label `kept`,
    as a disruption budget would keep them. A token `good:<namespace>:<service account>` is valid.
    """

    def do_GET(self) -> None:
        path = Path(_option("--dir")) / "pods.json"
        pods = json.loads(path.read_text()) if path.exists() else []
        wanted = self.path.partition("spec.nodeName%3D")[2]
        found = [pod for pod in pods if pod["spec"]["nodeName"] == wanted]
        self._reply(200, {"kind": "PodList", "apiVersion": "v1", "items": found})

    def do_POST(self) -> None:
        body = self._note()
        if self.path.endswith("/tokenreviews"):
            spec = body["spec"]
            good, _, account = spec["token"].partition(":")
            status: dict[str, Any] = {"authenticated": False}
            if good == "good":
                user = {"username": f"system:serviceaccount:{account}"}
                status = {"authenticated": True, "user": user, "audiences": spec["audiences"]}
            self._reply(201, {"spec": spec, "status": status})
            return
        path = Path(_option("--dir")) / "pods.json"
        pods = json.loads(path.read_text())
        evicted = next(pod for pod in pods if pod["metadata"]["name"] == self.path.split("/")[-2])
        if "kept" in evicted["metadata"].get("labels", {}):
            self._reply(429, {"kind": "Status", "message": "Cannot evict pod"})
            return
        path.write_text(json.dumps([pod for pod in pods if pod is not evicted]))
        self._reply(201, {})

    def do_PATCH(self) -> None:
        self._note()
        self._reply(200, {})

    do_DELETE = do_PATCH  # noqa: N815

    def _note(self) -> dict[str, Any]:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with (Path(_option("--dir")) / "changes").open("a") as file:
            file.write(json.dumps([self.command, self.path, text]) + "\n")
        return json.loads(text) if text else {}

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def kubernetes() -> None:
    """Pretend to be a control plane."""
    from sandbox import processes

    stop = processes.stop_event()
    directory = Path(_option("--dir"))
    directory.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((_option("--host"), 6443), _Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://{_option('--host')}:6443"
    kubeconfig = directory / "admin.kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    processes.announce(
        {
            "endpoint": url,
            "certificate_authority_data": base64.b64encode(b"authority").decode(),
            "admin_kubeconfig": str(kubeconfig),
            "version": "v1.35.0",
        }
    )
    stop.wait()


def node() -> None:
    """Pretend to be a node."""
    from sandbox import processes

    stop = processes.stop_event()
    (Path(_option("--dir")) / "arguments").write_text(json.dumps(sys.argv))
    processes.announce({"name": _option("--name"), "address": _option("--address")})
    stop.wait()


def serve() -> None:
    """Run the sandbox's AWS with the stand-ins in place of Kubernetes."""
    from sandbox.aws import __main__, cluster

    cluster.KUBERNETES_COMMAND = [sys.executable, __file__, "kubernetes"]
    cluster.NODE_COMMAND = [sys.executable, __file__, "node"]
    del sys.argv[1]
    sys.exit(__main__.main())


if __name__ == "__main__":
    {"serve": serve, "kubernetes": kubernetes, "node": node}[sys.argv[1]]()
