"""The image's one process: starts vLLM and its door, passes signals on, and says why vLLM failed.

Everything that differs between the two clouds comes by environment variables, so that both give it the same
arguments, those of `vllm serve`:

BERTH_DOOR     which door requests come in by: `http` (vLLM's own server) or `queue` (jobs of a RunPod queue,
               which the package `queue_door` passes on to the same server). Default `http`.
BERTH_TASK     what the model is for (generate, embed, score, classify, transcribe): the queue door reads
               inputs by it that could be for several. Default: by their keys alone.
BERTH_QUERY_INSTRUCTION   what the queue door puts before a text that is embedded where its job says no
               `instruction`. Default: nothing.
BERTH_HOST     address to listen on. Default 0.0.0.0; with the queue door, which is then the only one who asks
               vLLM, 127.0.0.1.
PORT           vLLM's port. Default 8000.
PORT_HEALTH    where it differs from PORT, a port that answers any path with 204 while vLLM loads, 200 when it
               serves, 503 when it drains or has failed. vLLM itself accepts no connection until it has
               loaded, which RunPod's load balancer takes for an unhealthy worker instead of a starting one.
VLLM_API_KEY   the key that vLLM asks for. Never an argument: those are in logs and in process lists.
BERTH_TERMINATION_LOG   where the reason of a failure is written. Default /dev/termination-log, whose contents
               Kubernetes shows in the pod's status.
BERTH_DOOR_PYTHON   the Python that has the queue door's packages. Default /opt/berth/door/bin/python.
BERTH_FAST_START   where it is set, vLLM is started by start.py and not by its own command. Default: unset.
MODEL_NAME and the other names in arguments.py   arguments of vLLM, where the arguments do not say them.

Exit status: vLLM's own, 128+n if signal n ended it; the queue door's if that failed first; 64 if the
container's settings are wrong. Standard library only: it runs with whatever Python the base image has.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

import adapters
import health
import start
from arguments import RESERVED, ArgumentError, complete, concurrency, drain_seconds
from processes import HUB_TOKENS, SECRETS, Child
from reasons import find_reason

# What a stack may not set itself, for those who check stacks.
__all__ = ["RESERVED", "SECRETS"]

EXIT_USAGE = 64
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # a container's port is meant to be reached
DOOR_PYTHON = "/opt/berth/door/bin/python"
VOLUME = "/runpod-volume"  # where RunPod mounts one, which may belong to another user than the image's
# How long the queue door may take to answer its jobs when vLLM is gone.
LAST_ANSWERS_SECONDS = 15.0
# Kubernetes keeps no more of a termination message (4096 bytes).
REASON_LIMIT = 1000


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


def start_vllm(arguments: list[str], host: str, port: int) -> Child:
    """Start the server.

    What RunPod tells its workers is not for it: it would be in dumps and in plugins. Caches on a volume that
    cannot be written are left where vLLM has them by itself, rather than ending its start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    if not os.access(VOLUME, os.W_OK | os.X_OK):
        for name in [name for name, value in environment.items() if value.startswith(f"{VOLUME}/")]:
            say(f"{name} is not used: {environment.pop(name)} cannot be written")
    starts = [sys.executable, start.__file__] if os.environ.get("BERTH_FAST_START") else ["vllm", "serve"]
    command = [*starts, *arguments, "--host", host, "--port", str(port)]
    if adapters.has_pinned(arguments):
        command = [sys.executable, adapters.__file__, *command]
    try:
        return Child(command, environment)
    except OSError as error:
        refuse(f"vllm cannot be started: {error.strerror}")


def start_door(engine_url: str, jobs_at_once: int) -> Child:
    """Start the queue door: now, so that its packages are loaded when vLLM is."""
    python = os.environ.get("BERTH_DOOR_PYTHON") or DOOR_PYTHON
    environment = {name: value for name, value in os.environ.items() if name not in HUB_TOKENS} | {
        "BERTH_ENGINE_URL": engine_url,
        "BERTH_JOBS_AT_ONCE": str(jobs_at_once),
        "PYTHONPATH": str(Path(__file__).resolve().parent),
    }
    return Child([python, "-m", "queue_door"], environment)


class Container:
    """vLLM and its door, from the start of the one to the end of both."""

    def __init__(self, vllm: Child, drain: float) -> None:
        """Take over vLLM.

        Args:
            vllm: the server.
            drain: how long the door may take to finish its jobs, in seconds.
        """
        self.vllm = vllm
        self.door: Child | None = None
        self._drain_seconds = drain
        self._stopping = False

    def is_leaving(self) -> bool:
        """Tell whether vLLM drains or has ended."""
        return self._stopping or self.vllm.code is not None

    def stop(self, number: int, _frame: object = None) -> None:
        """Pass a signal on to vLLM, which drains; if there is a door, when that has finished its jobs."""
        self._stopping = True
        if self.door is None or self.door.code is not None:
            self.vllm.signal(number)
        else:
            self._end_door(signal.SIGTERM, self._drain_seconds)

    def wait(self) -> int:
        """Reap what ends, as the first process of a container must, until both have; return the status."""
        status = None
        while self.vllm.code is None or (self.door and self.door.code is None):
            pid, wait_status = os.waitpid(-1, 0)
            if pid == self.vllm.pid:
                self.vllm.reaped(wait_status)
                self._vllm_ended()
                status = self.vllm.code if status is None else status
            elif self.door and pid == self.door.pid:
                self.door.reaped(wait_status)
                if self.vllm.code is None and not self._stopping:
                    say(f"the queue door ended with status {self.door.code}")
                    self._stopping = True
                    status = self.door.code or 1
                self.vllm.signal(signal.SIGTERM)
        assert status is not None  # noqa: S101  # vLLM has ended
        return status

    def _vllm_ended(self) -> None:
        code = self.vllm.code
        reason = find_reason(self.vllm.lines) or "its log gives no reason"
        if code and not self._stopping:
            write_termination_log(reason)
            say(f"vLLM ended with status {code}: {reason}"[:REASON_LIMIT])
        if self.door and self.door.code is None:
            self.door.tell(json.dumps(f"vLLM ended with status {code}: {reason}"[:REASON_LIMIT]))
            self._end_door(None, LAST_ANSWERS_SECONDS)

    def _end_door(self, number: int | None, seconds: float) -> None:
        """Ask the door to end, and kill it if it has not after some seconds."""
        assert self.door is not None  # noqa: S101  # callers know
        if number is not None:
            self.door.signal(number)
        timer = threading.Timer(seconds, self.door.signal, (signal.SIGKILL,))
        timer.daemon = True
        timer.start()


def main(given: list[str]) -> int:
    """Run the container until vLLM and its door have ended, and return the exit status."""
    name = os.environ.get("BERTH_DOOR") or "http"
    if name not in ("http", "queue"):
        refuse(f"BERTH_DOOR is {name!r}: it must be 'http' or 'queue'")
    try:
        arguments = complete(given, os.environ)
        drain = drain_seconds(arguments)
        jobs_at_once = concurrency(arguments, os.environ) if name == "queue" else 0
    except ArgumentError as error:
        refuse(str(error))
    host = os.environ.get("BERTH_HOST") or EVERY_ADDRESS
    # A server that listens on every address is asked on the local one.
    local = "127.0.0.1" if host == EVERY_ADDRESS else host
    if name == "queue":
        host = local
    port = port_from("PORT", "8000")
    health_port = port_from("PORT_HEALTH", str(port))

    container = Container(start_vllm(arguments, host, port), drain)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, container.stop)
    if health_port != port:
        try:
            health.serve(health.Health(local, port, container.is_leaving), host, health_port)
        except OSError as error:
            container.vllm.signal(signal.SIGKILL)
            refuse(f"PORT_HEALTH: cannot listen on {host}:{health_port}: {error.strerror}")
    if name == "queue":
        try:
            container.door = start_door(f"http://{local}:{port}", jobs_at_once)
        except OSError as error:
            container.vllm.signal(signal.SIGKILL)
            refuse(f"the queue door cannot be started: {error.filename}: {error.strerror}")
    return container.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
