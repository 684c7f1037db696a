"""Answers the containers of a node whether a NetworkPolicy lets them connect somewhere.

Who asks is `container_site/sitecustomize.py`, in the containers' Python programs; it says what that covers.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SITE = Path(__file__).with_name("container_site")


class EgressServer(socketserver.ThreadingUnixStreamServer):
    """Listens on a Unix socket without a file, whose path could be too long.

    Args:
        node: the node's name.
        judge: says whether a pod (by uid) may send to an address, a port and by a protocol.
    """

    daemon_threads = True

    def __init__(self, node: str, judge: Callable[[str, str, int, str], bool]) -> None:
        self._name = f"berth-egress-{node}-{os.getpid()}"
        super().__init__(f"\0{self._name}", _Handler)
        self.judge = judge

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self.serve_forever, name="egress", daemon=True).start()

    def environment(self, pod: str, address: str, variables: Mapping[str, str]) -> dict[str, str]:
        """Return what a container's environment needs so that its Python programs ask.

        Args:
            pod: the pod's uid.
            address: the pod's own address, which its connections come from.
            variables: the environment that it has otherwise.
        """
        path = os.pathsep.join(filter(None, (str(_SITE), variables.get("PYTHONPATH"))))
        return {
            "BERTH_EGRESS": self._name,
            "BERTH_POD": pod,
            "BERTH_POD_ADDRESS": address,
            "PYTHONPATH": path,
        }


class _Handler(socketserver.StreamRequestHandler):
    server: EgressServer

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        allowed = self.server.judge(asked["pod"], asked["address"], asked["port"], asked["protocol"])
        self.wfile.write(b"yes\n" if allowed else b"no\n")
