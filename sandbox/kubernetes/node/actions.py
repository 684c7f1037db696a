"""What probes and lifecycle hooks do to a container: HTTP requests, TCP connections and commands."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sandbox.kubernetes.node.addresses import to_public
from sandbox.processes import ProcessError, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.containers import Container
    from sandbox.kubernetes.node.api import Object
    from sandbox.kubernetes.node.mounts import Mounts

_OUTPUT_BYTES = 10 * 1024


class ActionError(RuntimeError):
    """It did not succeed; the message says how, in the kubelet's words."""


@dataclass(frozen=True)
class Target:
    """A running container and what is needed to reach it.

    Args:
        spec: the container's spec.
        container: the running container.
        address: the pod's loopback address.
        node_address: the node's, which probes come from.
        mounts: where the container's paths are.
    """

    spec: Object
    container: Container
    address: str
    node_address: str
    mounts: Mounts


def perform(
    action: Mapping[str, Any], target: Target, timeout_seconds: float, stopped: Callable[[], bool]
) -> None:
    """Perform an action once.

    Args:
        action: one of `httpGet`, `tcpSocket`, `exec` and, for hooks, `sleep`.
        target: the container.
        timeout_seconds: how long it may take.
        stopped: asked now and then whether to give up.

    Raises:
        ActionError: it failed or took too long.
    """
    if action.get("httpGet"):
        _http_get(action["httpGet"], target, timeout_seconds)
    elif action.get("tcpSocket"):
        _connect(action["tcpSocket"], target, timeout_seconds)
    elif action.get("exec"):
        _execute(action["exec"].get("command") or [], target, timeout_seconds, stopped)
    elif action.get("sleep"):
        deadline = time.monotonic() + min(action["sleep"]["seconds"], timeout_seconds)
        while time.monotonic() < deadline and not stopped():
            time.sleep(0.1)


def _port(value: int | str, target: Target) -> int:
    if isinstance(value, int):
        return value
    for port in target.spec.get("ports") or ():
        if port.get("name") == value:
            return int(port["containerPort"])
    if value.isdigit():
        return int(value)
    raise ActionError(f"couldn't find port {value!r} in container {target.spec['name']}")


def _http_get(action: Mapping[str, Any], target: Target, timeout_seconds: float) -> None:
    host = action.get("host") or target.address
    port = _port(action["port"], target)
    path = action.get("path") or "/"
    scheme = (action.get("scheme") or "HTTP").lower()
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
    headers.setdefault("User-Agent", "kube-probe/1.35")
    shown = f'Get "{scheme}://{to_public(host)}:{port}{path}"'
    source = target.node_address if host == target.address else None
    try:
        # A probe does not check certificates: the kubelet does not either.
        transport = httpx.HTTPTransport(verify=False, trust_env=False, local_address=source)
        with httpx.Client(transport=transport, trust_env=False, timeout=timeout_seconds) as client:
            response = client.get(f"{scheme}://{host}:{port}{path}", headers=headers)
    except httpx.TimeoutException as error:
        raise ActionError(f"{shown}: context deadline exceeded") from error
    except httpx.HTTPError as error:
        raise ActionError(f"{shown}: {error}") from error
    if not 200 <= response.status_code < 400:
        raise ActionError(f"HTTP probe failed with statuscode: {response.status_code}")


def _connect(action: Mapping[str, Any], target: Target, timeout_seconds: float) -> None:
    host, port = action.get("host") or target.address, _port(action["port"], target)
    source = (target.node_address, 0) if host == target.address else None
    try:
        socket.create_connection((host, port), timeout_seconds, source).close()
    except OSError as error:
        raise ActionError(f"dial tcp {to_public(host)}:{port}: {error.strerror or error}") from error


def _execute(command: list[str], target: Target, timeout_seconds: float, stopped: Callable[[], bool]) -> None:
    """Run a command as the container's main process was started: its environment, its folder."""
    if not command:
        raise ActionError("no command")
    try:
        pid = target.container.pid
        block = Path(f"/proc/{pid}/environ").read_bytes()
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError as error:
        raise ActionError("the container is not running") from error
    environment = dict(part.partition("=")[::2] for part in os.fsdecode(block).split("\0") if part)
    rootfs = target.container.image.rootfs
    argv = [_inside(rootfs, part) for part in target.mounts.arguments(command) or ()]
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise ActionError(f'exec: "{command[0]}": executable file not found in $PATH')
    with tempfile.TemporaryDirectory(prefix="exec-", dir=target.container.directory) as scratch:
        try:
            process = spawn(
                [program, *argv[1:]],
                name=command[0],
                log_path=Path(scratch) / "output",
                env=environment,
                cwd=folder,
            )
        except ProcessError as error:
            raise ActionError(str(error)) from error
        deadline = time.monotonic() + timeout_seconds
        timed_out = False
        while process.alive() and not timed_out and not stopped():
            timed_out = time.monotonic() > deadline
            time.sleep(0.02)
        status = process.popen.poll()
        process.stop(grace_seconds=0)
        output = process.log_path.read_bytes()[:_OUTPUT_BYTES].decode(errors="replace").strip()
    if timed_out:
        raise ActionError(f'command timed out: "{" ".join(command)}" timed out after {timeout_seconds:g}s')
    if status:
        words = signal.Signals(-status).name if status < 0 else str(status)
        raise ActionError(output or f"command exited with status {words}")


def _inside(rootfs: Path, part: str) -> str:
    path = rootfs / part.lstrip("/")
    return str(path) if part.startswith("/") and path.is_file() else part
