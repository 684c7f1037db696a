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


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class _Api(BaseHTTPRequestHandler):
    """Just enough of the Kubernetes API for draining: no pods, and every change is written down."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.command != "GET":
            with (Path(_option("--dir")) / "changes").open("a") as file:
                file.write(json.dumps([self.command, self.path, body]) + "\n")
        answer = b'{"kind": "PodList", "apiVersion": "v1", "items": []}' if self.command == "GET" else b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PATCH = do_DELETE = _answer  # noqa: N815

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
