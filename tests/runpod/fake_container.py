"""Stands in for a container: a real process that answers as the image does, led by its arguments."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ARGUMENTS = sys.argv[1:]
LOADING_SECONDS = float(os.environ.get("FAKE_LOADING_SECONDS", "0.1"))
STARTED = time.monotonic()
HOST = os.environ["BERTH_HOST"]


def loaded() -> bool:
    return time.monotonic() - STARTED > LOADING_SECONDS


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if loaded() else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(Health):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/stream":
            self._stream(int(query["n"][0]), float(query["every"][0]))
        elif url.path == "/exit":
            os._exit(int(query["status"][0]))
        elif url.path == "/slow":
            time.sleep(float(query["seconds"][0]))
            self._answer({"slept": True})
        else:
            environment = {name: os.environ.get(name) for name in ("PORT", "RUNPOD_POD_ID", "SETTING")}
            headers = dict(self.headers.items())
            self._answer({"path": self.path, "args": ARGUMENTS, "env": environment, "headers": headers})

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            size = 0
            while count := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(count))
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer({"received": size})

    def _answer(self, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, count: int, every: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number in range(count):
                event = f"data: {number}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                time.sleep(every)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            Path(os.environ["HOME"], "client-gone").touch()
            print("client gone", flush=True)


def main() -> None:
    print(f"started with {ARGUMENTS}", flush=True)
    if "--refuse" in ARGUMENTS:
        print("error: unrecognized arguments: --refuse", flush=True)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ports = {int(os.environ["PORT_HEALTH"]): Health}
    if "--no-server" not in ARGUMENTS:
        ports[int(os.environ["PORT"])] = Server
    for port, handler in ports.items():
        server = http.server.ThreadingHTTPServer((HOST, port), handler)
        threading.Thread(target=server.serve_forever).start()


main()
