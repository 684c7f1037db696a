"""A model hub of one model that is not public: what `huggingface_hub` asks for, and only with the token."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "someone/tiny"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "model.safetensors": b"weights that are none " * 64,
    "pytorch_model.bin": b"the same weights in a form that is not to be taken",
}


class Hub:
    """The server, for as long as a test needs it.

    Args:
        token: what must be shown.
    """

    def __init__(self, token: str) -> None:
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(token, self.asked))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(token: str, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.headers.get("Authorization") != f"Bearer {token}":
                self._answer(401, b'{"error": "Invalid credentials"}', {"X-Error-Code": "RepoNotFound"})
            elif self.path.startswith(f"/api/models/{MODEL}/revision/{REVISION}"):
                siblings = [{"rfilename": name} for name in FILES]
                self._answer(200, json.dumps({"id": MODEL, "sha": REVISION, "siblings": siblings}).encode())
            elif self.path.startswith(f"/api/models/{MODEL}/tree/{REVISION}"):
                tree = [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in FILES.items()
                ]
                self._answer(200, json.dumps(tree).encode())
            elif (name := self.path.removeprefix(f"/{MODEL}/resolve/{REVISION}/")) in FILES:
                etag = hashlib.sha256(FILES[name]).hexdigest()
                self._answer(200, FILES[name], {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION})
            else:
                self._answer(404, b'{"error": "not found"}', {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET  # noqa: N815  # the name that the library looks for

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
