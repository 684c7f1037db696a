"""Stand-in for NVIDIA's device plugin: announces the node's GPUs to the kubelet while it runs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path

from sandbox.kubernetes.node.plugins import FOLDER, SOCKET

_LOG = logging.getLogger("nvidia-device-plugin")


def main() -> int:
    """Register, and stay; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(os.environ["BERTH_MOUNTS"]) / FOLDER
    _LOG.info("stand-in for NVIDIA's device plugin; arguments: %s", sys.argv[1:])
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        kubelet = socket.socket(socket.AF_UNIX)
        kubelet.connect(f"/proc/self/fd/{directory}/{SOCKET}")
    except OSError as error:
        _LOG.error(
            "/%s/%s: %s: is the folder mounted from the node (hostPath)?", FOLDER, SOCKET, error.strerror
        )
        return 1
    kubelet.sendall(b"register\n")
    count = int(kubelet.makefile("rb").readline() or 0)
    if count == 0:
        _LOG.info("No devices found. Waiting indefinitely.")
        signal.pause()
    _LOG.info("Registered device plugin for 'nvidia.com/gpu' with Kubelet: %d devices", count)
    kubelet.recv(1)  # until the node is gone
    _LOG.info("the kubelet is gone")
    return 1


if __name__ == "__main__":
    sys.exit(main())
