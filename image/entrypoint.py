"""The image's one process: starts vLLM, answers for its health, passes signals on, and says why it failed.

Everything that differs between the two clouds comes by environment variables, so that both give it the same
arguments, those of `vllm serve`:

BERTH_DOOR     which door requests come in by: `http` (vLLM's own server). Default `http`.
BERTH_HOST     address to listen on. Default 0.0.0.0.
PORT           vLLM's port. Default 8000.
PORT_HEALTH    where it differs from PORT, a port that answers any path with 204 while vLLM loads, 200 when it
               serves, 503 when it drains or has failed. vLLM itself accepts no connection until it has
               loaded, which RunPod's load balancer takes for an unhealthy worker instead of a starting one.
VLLM_API_KEY   the key that vLLM asks for. Never an argument: those are in logs and in process lists.
BERTH_TERMINATION_LOG   where the reason of a failure is written. Default /dev/termination-log, whose contents
               Kubernetes shows in the pod's status.

Exit status: vLLM's own, 128+n if signal n ended it, 64 if the container's settings are wrong.
Standard library only: it runs with whatever Python the base image has.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn

EXIT_USAGE = 64
# Arguments that this program sets itself, or that would show a secret, and what to use instead.
RESERVED = {
    "--host": "BERTH_HOST",
    "--port": "PORT",
    "--api-key": "VLLM_API_KEY",
    "--hf-token": "HF_TOKEN",
}
SECRETS = ("VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# Enough for the traceback of the engine and that of the server, which repeats it.
LINES_KEPT = 400
PROBE_SECONDS = 5.0
# vLLM's engine may still hold the log's pipe for a moment after the server has ended.
LAST_LINES_SECONDS = 2.0
# Kubernetes keeps no more of a termination message (4096 bytes).
REASON_LIMIT = 1000

_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) ?)?(?:(?:ERROR|CRITICAL) \S+ \S+ \[[^]]*\] ?)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?(?P<name>[A-Z]\w*(?:Error|Exception|Exit)): (?P<text>.*)")
_USAGE = re.compile(r"^vllm(?: serve)?: error: (?P<text>.+)")
_VALIDATION = re.compile(r"validation errors? for ")
# What vLLM's server says when its engine has failed: the reason is in an earlier line.
_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|EngineDeadError|WorkerProc initialization failed"
)


def say(text: str) -> None:
    """Write one line of this program's own to the container's log."""
    print(f"berth: {text}", flush=True)


def refuse(text: str) -> NoReturn:
    """End because of a wrong setting."""
    say(text)
    write_termination_log(text)
    sys.exit(EXIT_USAGE)


def port_from(name: str, default: str) -> int:
    """Read a port from an environment variable."""
    value = os.environ.get(name) or default
    if not (value.isdecimal() and 1 <= int(value) <= 65535):
        refuse(f"{name} is {value!r}: it must be a port, 1 to 65535")
    return int(value)


def write_termination_log(text: str) -> None:
    """Leave a failure's reason where Kubernetes looks for it; other platforms have no such file."""
    path = os.environ.get("BERTH_TERMINATION_LOG", "/dev/termination-log")
    with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text[:REASON_LIMIT] + "\n")


def find_reason(lines: list[str]) -> str | None:
    """Return the line of vLLM's log that says why it ended, or None.

    The last exception is taken, as it is the one that nothing caught, but for those that only say that
    another process of vLLM has failed: then it is that one's last.
    """
    cleaned = [_PREFIX.sub("", line).rstrip() for line in lines]
    for index in range(len(cleaned) - 1, -1, -1):
        if usage := _USAGE.match(cleaned[index]):
            return usage["text"]
        match = _EXCEPTION.match(cleaned[index])
        if match is None or _CONSEQUENCE.search(cleaned[index]):
            continue
        if _VALIDATION.search(match["text"]):
            # pydantic says what is wrong in the lines below, each followed by the whole input in brackets.
            details = [line.strip() for line in cleaned[index + 1 : index + 4]]
            detail = next((line for line in details if "[type=" in line), "")
            return detail.partition(" [type=")[0].removeprefix("Value error, ") or match["text"]
        return f"{match['name']}: {match['text']}"
    return None


class Server:
    """The vLLM process: its log, its end, and whether it answers."""

    def __init__(self, arguments: list[str], host: str, port: int) -> None:
        self.stopping = False
        self.ended = False
        self._ready = False
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        # A server that listens on every address is asked on the local one.
        self._probe_host = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104
        self._port = port
        # A value too short to be a secret would blank out ordinary words.
        self._secrets = [os.environb[name.encode()] for name in SECRETS if len(os.environ.get(name, "")) >= 6]
        self._process = subprocess.Popen(
            ["vllm", "serve", *arguments, "--host", host, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._log = threading.Thread(target=self._copy_log, daemon=True)
        self._log.start()

    def signal(self, number: int, _frame: object = None) -> None:
        """Pass a signal on; from now on vLLM drains."""
        self.stopping = True
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Reap what ends, as the first process of a container must, until vLLM has; return its status."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._process.pid:
                self.ended = True
                code = os.waitstatus_to_exitcode(status)
                self._process.returncode = code
                self._log.join(LAST_LINES_SECONDS)
                return code if code >= 0 else 128 - code

    def reason(self) -> str | None:
        """Return what vLLM's log says about its end."""
        return find_reason(list(self._lines))

    def health(self) -> int:
        """Return 204 while vLLM loads, 200 while it serves, 503 when it drains, has ended or is stuck."""
        if self.stopping or self.ended:
            return 503
        answers = self._answers()
        self._ready = self._ready or answers
        if not self._ready:
            return 204
        return 200 if answers else 503

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._probe_host, self._port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _copy_log(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        for line in self._process.stdout:
            for secret in self._secrets:
                line = line.replace(secret, b"***")  # noqa: PLW2901
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            self._lines.append(line.decode(errors="replace").rstrip("\n"))


def serve_health(server: Server, host: str, port: int) -> None:
    """Answer for vLLM's health on a port of its own, in the background."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.health())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_args: object) -> None:
            """Say nothing: the platform asks every few seconds."""

    ThreadingHTTPServer.daemon_threads = True
    listener = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Run the container until vLLM ends, and return the exit status."""
    door = os.environ.get("BERTH_DOOR") or "http"
    if door != "http":
        refuse(f"BERTH_DOOR is {door!r}: this image has only the door 'http'")
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name in RESERVED:
            refuse(f"the argument {name} is not taken: set the environment variable {RESERVED[name]}")
    host = os.environ.get("BERTH_HOST") or "0.0.0.0"  # noqa: S104  # a container's port is meant to be reached
    port = port_from("PORT", "8000")
    health_port = port_from("PORT_HEALTH", str(port))

    try:
        server = Server(arguments, host, port)
    except OSError as error:
        refuse(f"vllm cannot be started: {error.strerror}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.signal)
    if health_port != port:
        try:
            serve_health(server, host, health_port)
        except OSError as error:
            server.signal(signal.SIGKILL)
            refuse(f"PORT_HEALTH: cannot listen on {host}:{health_port}: {error.strerror}")

    status = server.wait()
    if status and not server.stopping:
        reason = server.reason() or "its log gives no reason"
        write_termination_log(reason)
        say(f"vLLM ended with status {status}: {reason}"[:REASON_LIMIT])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
