"""Both accounts of a stack, on this machine, and who types commands at them."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.ops.runpod_platform import typed
from tests.runpod.conftest import KEY, start_platform
from tests.sandbox_aws.support import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ops.runpod_platform import Said
    from tests.runpod.conftest import Platform


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A service of AWS that has one answer to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Clouds:
    """Both accounts of a stack."""

    aws: Sandbox
    runpod: Platform

    @property
    def variables(self) -> dict[str, str]:
        """The environment of somebody who works with them."""
        return {
            "AWS_ACCESS_KEY_ID": self.aws.environment["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": self.aws.environment["AWS_SECRET_ACCESS_KEY"],
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_REST_V2_API_URL": self.runpod.cloud.endpoint,
        }

    def typed(self, command: str, stack: str, *options: str, exit_status: int = 0, **more: str) -> Said:
        """Type a command; whatever it says, it never says a key."""
        variables = self.variables | more
        said = typed(command, "--stack", stack, *options, variables=variables, exit_status=exit_status)
        for secret in ("AWS_SECRET_ACCESS_KEY", "RUNPOD_API_KEY"):
            assert not variables[secret] or variables[secret] not in said.stdout + said.stderr
        return said


@contextlib.contextmanager
def clouds(folder: Path) -> Iterator[tuple[Sandbox, Platform]]:
    """AWS and RunPod of the sandbox, while they are needed."""
    (folder / "aws").mkdir()
    aws = Sandbox(folder / "aws").start()
    runpod = start_platform(folder / "runpod", block=aws.block)
    yield aws, runpod
    runpod.cloud.stop()
    aws.stop()
