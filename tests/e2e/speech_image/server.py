"""A server of OpenAI's speech route with eSpeak NG behind it: `server.py --port PORT`.

Standard library only. SPEECH_API_KEY is the key that it asks for below /v1, if there is one. BERTH_HOST is
where it listens: the sandbox's containers have an address each instead of a network of their own.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from speech import Speaker  # type: ignore[import-not-found]  # beside this file in the image

KEY = os.environ.get("SPEECH_API_KEY")
SPEAKER = Speaker(Path(__file__).parent / "espeakng_loader")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_let_in(self) -> bool:
        if not KEY or self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self.answer(401, b'{"error": {"message": "wrong key", "type": "invalid_request_error"}}')
        return False

    def do_GET(self) -> None:
        if self.path in ("/health", "/ping"):  # the second is where RunPod's load balancer asks
            self.answer(200, b"{}")
        elif self.is_let_in():
            self.answer(200, b'{"object": "list", "data": [{"id": "espeak", "object": "model"}]}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if self.path == "/v1/audio/speech" and self.is_let_in():
            self.answer(200, SPEAKER.wav(asked["input"]), "audio/wav")

    def log_message(self, *_: object) -> None:
        """Say nothing of requests: they have the text."""


if __name__ == "__main__":
    address = os.environ.get("BERTH_HOST", "0.0.0.0")
    ThreadingHTTPServer((address, int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
