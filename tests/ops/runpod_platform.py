"""A stack whose endpoint is on the sandbox's RunPod, and the commands typed against it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from typer.testing import CliRunner

from ops.cli import app
from ops.stacks import PROJECT_FOLDER
from tests.runpod.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.ops.conftest import Project
    from tests.runpod.conftest import Platform


@dataclass(frozen=True)
class Said:
    """What a command wrote, and to where."""

    stdout: str
    stderr: str


def typed(*arguments: str, variables: dict[str, str], exit_status: int = 0) -> Said:
    """Run a command in this process, where there is no terminal."""
    with contextlib.chdir(PROJECT_FOLDER):
        result = CliRunner().invoke(app, arguments, env=variables)
    assert result.exit_code == exit_status, (result.output, result.exc_info)
    return Said(result.stdout, result.stderr)


@dataclass(frozen=True)
class Deployed:
    """The stack `dev` with one endpoint on a platform.

    Args:
        project: where the stand-in for the Pulumi CLI is.
        platform: the sandbox's RunPod.
        endpoint: as its API shows it.
    """

    project: Project
    platform: Platform
    endpoint: dict[str, Any]

    def variables(self, key: str = KEY, **outputs: object) -> dict[str, str]:
        """Return the variables under which `berth` works on the stack."""
        queue = self.endpoint["type"] == "QUEUE"
        urls = self.endpoint["requestUrls"]
        jobs = urls["run"].removesuffix("/run") if queue else None
        described = {
            "url": f"{jobs}/openai/v1" if queue else f"{urls['base']}/v1",
            "health": urls["health"],
            "id": self.endpoint["id"],
            "type": self.endpoint["type"],
            "console": f"https://console.runpod.io/serverless/user/endpoint/{self.endpoint['id']}",
            **({"jobs": jobs} if queue else {}),
        }
        pulumi = self.project.pulumi(
            {"model": "served", "image": "image", "endpoints": {"runpod": described}, **outputs}
        )
        return pulumi | {"RUNPOD_API_KEY": key, "RUNPOD_REST_V2_API_URL": self.platform.cloud.endpoint}

    def berth(self, *arguments: str, exit_status: int = 0, key: str = KEY) -> Said:
        """Run a command on the stack; whatever it says, it never says the key."""
        return self.typed(*arguments, "--stack", "dev", exit_status=exit_status, key=key)

    def typed(self, *arguments: str, exit_status: int = 0, key: str = KEY) -> Said:
        """Run a command as it stands."""
        said = typed(*arguments, exit_status=exit_status, variables=self.variables(key))
        assert key not in said.stdout + said.stderr
        return said

    def running(self, *arguments: str, api: str | None = None) -> contextlib.AbstractContextManager[Running]:
        """Run a command that goes on.

        Args:
            arguments: of the command.
            api: where REST v2 is, if not at the platform itself.
        """
        return running(self.variables() | ({"RUNPOD_REST_V2_API_URL": api} if api else {}), *arguments)


@contextlib.contextmanager
def running(variables: dict[str, str], *arguments: str) -> Iterator[Running]:
    """Run a command that goes on; it is interrupted at the end, as by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", *arguments, "--stack", "dev"],
        cwd=PROJECT_FOLDER,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        yield Running(process)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
        assert "Traceback" not in rest
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


@contextlib.contextmanager
def breakable(url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Pass connections on to a server; yield where, and what breaks off all that there are."""
    target = urlsplit(url)
    open_now: set[socket.socket] = set()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        break_off((source, sink))

    def break_off(connections: Iterable[socket.socket] | None = None) -> None:
        for connection in list(open_now if connections is None else connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((target.hostname, target.port)) as upstream:
                open_now.update((self.request, upstream))
                back = threading.Thread(target=pump, args=(upstream, self.request))
                back.start()
                pump(self.request, upstream)
                back.join()
                open_now.difference_update((self.request, upstream))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", break_off
        finally:
            server.shutdown()
            serving.join()
            break_off()


@dataclass(frozen=True)
class Running:
    """A command that goes on."""

    process: subprocess.Popen[str]

    def until(self, text: str) -> list[str]:
        """Read its lines up to the first with this text."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line.rstrip("\n"))
            if text in line:
                return seen
        raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(seen))
