"""Runs the stand-in for the Cluster Autoscaler until SIGTERM."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.kubernetes.node.api import ApiError
from sandbox.kubernetes.standins.cluster_autoscaler.cluster import Cluster
from sandbox.kubernetes.standins.cluster_autoscaler.election import Election
from sandbox.kubernetes.standins.cluster_autoscaler.flags import FlagError, Flags, parse
from sandbox.kubernetes.standins.cluster_autoscaler.groups import Cloud, CloudError
from sandbox.kubernetes.standins.cluster_autoscaler.scale_down import ScaleDown
from sandbox.kubernetes.standins.cluster_autoscaler.scale_up import ScaleUp
from sandbox.kubernetes.standins.cluster_autoscaler.view import View

_LOG = logging.getLogger("cluster-autoscaler")
_WRONG_FLAGS = 2  # pflag's
_FATAL = 255  # klog's
# The original asks for its health to be bad when it has not done a round for this long.
_INACTIVE_SECONDS = 600.0
_RETRY_SECONDS = 2.0


def main() -> int:
    """Take the arguments, and scale until the end; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        flags = parse(sys.argv[1:])
    except FlagError as error:
        print(f"Error: {error}", file=sys.stderr)
        return _WRONG_FLAGS
    _LOG.info("stand-in for the Cluster Autoscaler; arguments it does not follow: %s", list(flags.ignored))
    health = _Health(flags.text("address"))
    region = os.environ.get("AWS_REGION")
    if not region:
        _LOG.critical("Failed to create AWS Manager: no region: set AWS_REGION")
        return _FATAL
    try:
        cluster = Cluster()
    except (OSError, KeyError) as error:
        _LOG.critical("Failed to build kube config: unable to load in-cluster configuration: %s", error)
        return _FATAL
    election = Election(cluster, flags, f"{socket.gethostname()}-{os.environ.get('HOSTNAME', '')}")
    if flags.on("leader-elect"):
        election.wait()
    _wait_for_rights(cluster)
    try:
        cloud = Cloud(region)
        cloud.groups(flags.tags)
    except CloudError as error:
        _LOG.critical("Failed to create AWS Manager: %s", error)
        return _FATAL
    _scale(cluster, cloud, flags, election, health)
    return 1


def _wait_for_rights(cluster: Cluster) -> None:
    while True:
        try:
            cluster.check_rights()
        except ApiError as error:
            _LOG.error("Failed to watch: %s", error)
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _scale(cluster: Cluster, cloud: Cloud, flags: Flags, election: Election, health: _Health) -> None:
    """Do one round after the other, until another one leads."""
    scale_up, scale_down = ScaleUp(cluster, cloud, flags), ScaleDown(cluster, cloud, flags)
    last_scale_up = float("-inf")
    last_round = float("-inf")
    while True:
        try:
            if flags.on("leader-elect") and not election.take():
                _LOG.critical("lost master")
                return
            if time.monotonic() - last_round >= flags.seconds("scan-interval"):
                last_round = time.monotonic()
                view = _look(cluster, cloud, flags)
                if scale_up.run(view):
                    last_scale_up = time.monotonic()
                elif flags.on("scale-down-enabled"):
                    scale_down.run(view, last_scale_up)
                if flags.on("write-status-configmap"):
                    _write_status(cluster, flags, view)
                health.did_a_round()
        except (ApiError, CloudError) as error:
            _LOG.error("%s", error)
        time.sleep(min(flags.seconds("leader-elect-retry-period"), flags.seconds("scan-interval")))


def _look(cluster: Cluster, cloud: Cloud, flags: Flags) -> View:
    return View(
        groups={group.name: group for group in cloud.groups(flags.tags)},
        nodes=cluster.objects("/api/v1/nodes"),
        pods=cluster.objects("/api/v1/pods"),
        budgets=cluster.objects("/apis/policy/v1/poddisruptionbudgets"),
        daemon_sets=cluster.daemon_sets(),
    )


def _write_status(cluster: Cluster, flags: Flags, view: View) -> None:
    groups = [
        {
            "name": group.name,
            "health": {
                "nodeCounts": {"registered": {"ready": len(view.nodes_of(group))}},
                "cloudProviderTarget": group.desired,
                "minSize": group.minimum,
                "maxSize": group.maximum,
            },
        }
        for group in view.groups.values()
    ]
    status = {"autoscalerStatus": "Running", "nodeGroups": groups}
    cluster.write(
        f"/api/v1/namespaces/{flags.text('namespace')}/configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": flags.text("status-config-map-name")},
            # JSON is YAML, which the original writes.
            "data": {"status": json.dumps(status, indent=2)},
        },
    )


class _Health:
    """Answers the liveness probe and an empty page of metrics."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._last = time.monotonic()
        handler = type("Handler", (_HealthHandler,), {"health": self})
        server = ThreadingHTTPServer((host or os.environ["BERTH_HOST"], int(port)), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def did_a_round(self) -> None:
        """Take note that a round is done."""
        self._last = time.monotonic()

    def good(self) -> bool:
        """Say whether rounds are being done."""
        return time.monotonic() - self._last < _INACTIVE_SECONDS


class _HealthHandler(BaseHTTPRequestHandler):
    health: _Health

    def do_GET(self) -> None:
        known = self.path in {"/health-check", "/metrics"}
        self.send_response(404 if not known else 200 if self.health.good() else 500)
        self.end_headers()
        if self.path == "/health-check":
            self.wfile.write(b"OK" if self.health.good() else b"Error: last activity too long ago")

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
