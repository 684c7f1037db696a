"""An OpenAI endpoint to be measured: as strict as vLLM about what it takes, and as bad as a test wants it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "right-key-of-a-test"
CONTEXT = 4096


@dataclass
class Endpoint:
    """What it does, and what it has seen.

    Args:
        key: what it asks for.
        fails_every: every so manieth request is answered with a 500; 0 for none.
        hangs_after: requests from this one on are never answered; None for none.
        cuts_streams: whether a stream ends before its last token.
        first_seconds: how long it thinks before the first token.
        token_seconds: and before each of the others.
        job: what a job is answered with.
        asked: the paths and bodies of the requests with the right key, in the order in which they came.
        at_once: the most that it had at the same time.
        released: ends what hangs.
    """

    key: str = KEY
    fails_every: int = 0
    hangs_after: int | None = None
    cuts_streams: bool = False
    first_seconds: float = 0.0
    token_seconds: float = 0.0
    job: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    hanging: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def request(self, path: str, body: dict[str, Any]) -> Iterator[int]:
        with self._lock:
            self.asked.append((path, body))
            number = len(self.asked)
            self._busy += 1
            self.at_once = max(self.at_once, self._busy)
        try:
            yield number
        finally:
            with self._lock:
                self._busy -= 1

    def completions(self) -> list[dict[str, Any]]:
        """What was asked for with whole answers: not what opens connections."""
        return [body for path, body in self.asked if path == "/v1/completions" and body["max_tokens"] > 1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: Endpoint

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer for RunPod's API too: one worker is at work, and one has no GPU yet."""
        workers = [{"status": "RUNNING"}, {"status": "THROTTLED"}]
        self._send(200, {"workers": workers} if self.path.endswith("/workers") else {})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {self.told.key}":
            self._send(401, {"error": "Unauthorized"})
            return
        body = json.loads(content)
        with self.told.request(self.path, body) as number:
            if self.told.hangs_after is not None and number > self.told.hangs_after:
                self.told.hanging.set()
                self.told.released.wait(60)
                self.close_connection = True
            elif self.told.fails_every and number % self.told.fails_every == 0:
                self._send(500, {"error": {"message": "the engine is busy dying"}})
            else:
                self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        if self.path == "/v1/completions":
            self._complete(body)
        elif self.path == "/v1/embeddings":
            data = [{"index": index, "embedding": "AAAAAA=="} for index in range(len(body["input"]))]
            tokens = sum(len(item) for item in body["input"])
            self._send(200, {"data": data, "usage": {"prompt_tokens": tokens}})
        elif self.path == "/runsync":
            self._send(200, self.told.job)
        else:
            self._send(404, {"error": {"message": f"no {self.path}"}})

    def _complete(self, body: dict[str, Any]) -> None:
        prompt, count = body["prompt"], body["max_tokens"]
        if not all(isinstance(token, int) for token in prompt) or len(prompt) + count > CONTEXT:
            self._send(400, {"error": {"message": f"at most {CONTEXT} token ids are taken"}})
            return
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count}
        chunks: list[Any] = [{"choices": [{"index": 0, "text": "a"}]} for _ in range(count)]
        chunks += [{"choices": [], "usage": usage}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b": keep-alive\n\n")
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
        for index, line in enumerate(lines[: count // 2] if self.told.cuts_streams and count > 1 else lines):
            if index < count:
                time.sleep(self.told.token_seconds if index else self.told.first_seconds)
            self.wfile.write(line.encode())
        self.close_connection = True

    def _send(self, status: int, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that have gone."""


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0, **told_to: Any) -> Iterator[Endpoint]:
    """Serve one until the end of the block."""
    told = Endpoint(**told_to)
    http = _Server((host, port), type("Handler", (_Handler,), {"told": told}))
    told.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    yield told
    told.released.set()
    http.shutdown()
    thread.join()
    http.server_close()
