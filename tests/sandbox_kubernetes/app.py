"""What the test image runs: a server that shows how it was started and does as it is told.

Arguments: the port to listen on, or "exit CODE [MESSAGE]" to end at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

healthy = True
ready = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global healthy, ready  # noqa: PLW0603
        if self.path == "/sick":
            healthy = False
        elif self.path == "/busy":
            ready = False
        elif self.path == "/idle":
            ready = True
        elif self.path == "/crash":
            os._exit(3)
        status = 200
        if (self.path == "/healthz" and not healthy) or (self.path == "/readyz" and not ready):
            status = 503
        told = {"env": dict(os.environ), "argv": sys.argv[1:], "cwd": str(Path.cwd())}
        body = json.dumps({**told, "peer": self.client_address[0]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        if not self.path.endswith("z"):
            print(*args[1:], flush=True)


def main() -> None:
    if sys.argv[1] == "exit":
        print("ending", *sys.argv[2:], flush=True)
        if len(sys.argv) > 3:
            Path(os.environ["BERTH_TERMINATION_LOG"]).write_text(sys.argv[3])
        sys.exit(int(sys.argv[2]))
    started = time.monotonic()
    time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
    server = ThreadingHTTPServer((os.environ["BERTH_HOST"], int(sys.argv[1])), Handler)

    def drain(*_: object) -> None:
        print(f"SIGTERM after {time.monotonic() - started:.1f} s", flush=True)
        seconds = float(os.environ.get("DRAIN_SECONDS", "0"))
        threading.Timer(seconds, server.shutdown).start()

    signal.signal(signal.SIGTERM, drain)
    print("listening", flush=True)
    server.serve_forever()
    print("ended", flush=True)


main()
