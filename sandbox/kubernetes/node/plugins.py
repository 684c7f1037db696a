"""Where a device plugin registers: the kubelet's socket in /var/lib/kubelet/device-plugins of the node.

A plugin reaches it through its pod's `hostPath` volume, as on a real node, and stays registered while its
connection is open. The words that go over it are the sandbox's own.
"""

from __future__ import annotations

import os
import socketserver
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.node.devices import Devices

FOLDER = "var/lib/kubelet/device-plugins"
SOCKET = "kubelet.sock"


class PluginServer(socketserver.ThreadingUnixStreamServer):
    """Takes registrations.

    Args:
        host: the folder that stands for the node's file system.
        devices: what the plugins announce.
    """

    daemon_threads = True

    def __init__(self, host: Path, devices: Devices) -> None:
        folder = host / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SOCKET).unlink(missing_ok=True)
        self.devices = devices
        # The path of a socket has 107 bytes at the most (unix(7)); that of an open folder is always short.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        super().__init__(f"/proc/self/fd/{self._folder}/{SOCKET}", _Handler)

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self.serve_forever, name="device plugins", daemon=True).start()


class _Handler(socketserver.StreamRequestHandler):
    server: PluginServer

    def handle(self) -> None:
        devices = self.server.devices
        self.rfile.readline()
        self.wfile.write(f"{devices.count}\n".encode())
        if not devices.count:
            return
        devices.plugin_began()
        try:
            self.rfile.read()  # until the plugin's end, which closes its side
        finally:
            devices.plugin_ended()
