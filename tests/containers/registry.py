"""A small OCI registry with ECR's token call, in memory, for tests of what pushes to and pulls from one."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = base64.b64encode(b"AWS:a-token").decode()


class Registry(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "GetAuthorizationToken" in self.headers.get("X-Amz-Target", ""):
            data: dict[str, Any] = {"authorizationData": [{"authorizationToken": TOKEN}]}
            self.answer(200, json.dumps(data).encode())
            return
        if self.headers.get("Authorization") != f"Basic {TOKEN}":
            self.refuse(401, "UNAUTHORIZED", "Not Authorized")
            return
        path, _, query = self.path.partition("?")
        repository, _, rest = path.removeprefix("/v2/").rpartition("/")
        if path == "/v2/":
            self.answer(200)
        elif repository.endswith("/blobs/uploads") or path.endswith("/blobs/uploads/"):
            self.upload(path, query, body)
        elif repository.endswith("/blobs"):
            self.found(self.server.blobs.get(rest), "BLOB_UNKNOWN")
        elif self.command == "PUT":
            name = repository.removesuffix("/manifests")
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.server.manifests[name, rest] = self.server.manifests[name, digest] = body
            self.answer(201, Docker_Content_Digest=digest)
        else:
            name = repository.removesuffix("/manifests")
            self.found(self.server.manifests.get((name, rest)), "MANIFEST_UNKNOWN")

    def upload(self, path: str, query: str, body: bytes) -> None:
        if self.command == "POST":
            identifier = uuid.uuid4().hex
            self.server.uploads[identifier] = b""
            self.answer(202, Location=f"{path}{identifier}?state=1")
            return
        identifier = path.rpartition("/")[2]
        self.server.uploads[identifier] += body
        if self.command == "PATCH":
            self.answer(202, Location=f"{path}?state=2")
            return
        content = self.server.uploads.pop(identifier)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if f"digest={digest.replace(':', '%3A')}" not in query and f"digest={digest}" not in query:
            self.refuse(400, "DIGEST_INVALID", "the digest differs")
            return
        self.server.blobs[digest] = content
        self.answer(201)

    def found(self, content: bytes | None, code: str) -> None:
        if content is None:
            self.refuse(404, code, "not in this repository")
        else:
            self.answer(200, content, Content_Type="application/vnd.oci.image.manifest.v1+json")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
