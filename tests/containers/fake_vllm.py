"""Stands for `vllm serve` in tests: serves /health and says what it was started with, slowly if told to.

FAKE_VLLM_HOLD: a file; it listens only once that is gone.
FAKE_VLLM_FAIL: a file whose text it prints, then exits 1.
FAKE_VLLM_CHILD: start a child that ignores SIGTERM. FAKE_VLLM_EXIT: its status after SIGTERM.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        names = ("HF_HOME", "HOME", "BERTH_HOST", "PORT", "VLLM_API_KEY", "GREETING")
        told = {"args": sys.argv[1:], "env": {name: os.environ.get(name) for name in names}}
        body = json.dumps({**told, "cwd": str(Path.cwd())}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    print("key is", os.environ.get("VLLM_API_KEY"), flush=True)
    if "FAKE_VLLM_FAIL" in os.environ:
        print(Path(os.environ["FAKE_VLLM_FAIL"]).read_text(), flush=True)
        sys.exit(1)
    if "FAKE_VLLM_CHILD" in os.environ:
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        print(f"child {child.pid}", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    hold = os.environ.get("FAKE_VLLM_HOLD")
    while hold and Path(hold).exists() and not ended.is_set():
        time.sleep(0.02)
    if not ended.is_set():
        server = ThreadingHTTPServer((option("--host"), int(option("--port"))), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("serving", flush=True)
    while not ended.wait(0.1):
        pass
    print("drained", flush=True)
    sys.stdout.flush()
    sys.exit(int(os.environ.get("FAKE_VLLM_EXIT", "0")))


main()
