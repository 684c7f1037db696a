"""Runs an image as local processes: what the sandbox's Kubernetes node and RunPod workers have for a runtime.

A container here is a process tree under `sandbox/shim.py`, not a namespace: it sees this machine's files and
runs as this user. What is the image's own is real: ENTRYPOINT, CMD, ENV, WORKDIR and files come from the
image that was pulled by digest. In the place of a network namespace a container has a loopback address of its
own (`BERTH_HOST`), in the place of its base image's programs the sandbox's vLLM environment, in the place of
GPUs the CPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import model, vllm
from sandbox.images import Image, ImageError, ImageNotFoundError, ImagePullError, ImageStore
from sandbox.processes import Process, ProcessError, spawn_contained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Container",
    "ContainerError",
    "Image",
    "ImageError",
    "ImageNotFoundError",
    "ImagePullError",
    "ImageStore",
]


class ContainerError(RuntimeError):
    """A container cannot be started; the message is fit for an event or a log line."""


@dataclass(frozen=True)
class Container:
    """A started container.

    Args:
        name: what messages call it.
        image: what it runs.
        argv: the command it runs, as the image and the caller gave it (paths as inside the image).
        directory: its own folder: writable home, termination log. Removed by `remove`.
        address: the loopback address it may listen on.
        log_path: its standard output and error, as written.
        process: the shim.
        temporary: its temporary files. The shim removes them; `stop` does, where the shim was killed.
    """

    name: str
    image: Image
    argv: tuple[str, ...]
    directory: Path
    address: str
    log_path: Path
    process: Process
    temporary: Path

    @classmethod
    def start(
        cls,
        image: Image,
        *,
        name: str,
        directory: Path,
        address: str,
        log_path: Path,
        command: Sequence[str] | None = None,
        args: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
    ) -> Container:
        """Start a container; it dies with this process, however this process dies.

        Args:
            image: from `ImageStore.pull`.
            name: what messages call it.
            directory: its own folder, made here; two running containers must not share one.
            address: a loopback address (127.x.y.z) that is this container's own.
            log_path: its output is appended here, so that it may outlive the container.
            command: replaces ENTRYPOINT (and then CMD is not used), as a pod's `command` does.
            args: replaces CMD, as a pod's `args` does; None keeps the image's CMD.
            env: set over the image's ENV. What the sandbox itself must set (PATH, HOME, BERTH_HOST, where the
                model is) comes over both.
            workdir: replaces WORKDIR.

        Raises:
            ContainerError: there is nothing to run, the program is not there, or vLLM's environment is
            missing.
        """
        argv = _argv(image, command, args)
        if not argv:
            raise ContainerError(f"{name}: no command: the image {image.reference} has no ENTRYPOINT or CMD")
        environment = _environment(image, env or {}, directory, address)
        folder = _working_directory(image, workdir)
        program = shutil.which(_program(image, argv[0], folder), path=environment["PATH"])
        if program is None:
            raise ContainerError(
                f"{name}: exec: {argv[0]!r}: not found in the image's files or on the sandbox's PATH"
            )
        (directory / "home").mkdir(parents=True, exist_ok=True)
        # What comes from the image may name files inside it; what the caller adds may too (a script in a
        # pod's command), and a path that the image does not have is left as it is.
        resolved = [program, *(_inside(image, part) for part in argv[1:])]
        # Not in the container's own folder: vLLM's sockets are in it, and the path of a socket has 107 bytes
        # at the most (unix(7)).
        temporary = environment["TMPDIR"] = tempfile.mkdtemp(prefix="berth-")
        try:
            process = spawn_contained(
                resolved,
                name=name,
                log_path=log_path,
                env=environment,
                cwd=folder,
            )
        except ProcessError as error:
            shutil.rmtree(temporary)
            raise ContainerError(str(error)) from error
        return cls(name, image, tuple(argv), directory, address, log_path, process, Path(temporary))

    @property
    def pid(self) -> int:
        """The shim's process id; the container's processes are below it."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit status once the container has ended (128+n if signal n ended its main process)."""
        status = self.process.popen.poll()
        return status if status is None or status >= 0 else 128 - status

    def signal(self, signal_number: int) -> None:
        """Send SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 to the main process (through the shim)."""
        if self.process.alive():
            self.process.popen.send_signal(signal_number)

    def stop(self, grace_seconds: float = 30.0) -> int:
        """Send SIGTERM to the main process, wait, then kill all that is left; return the exit status."""
        self.process.stop(grace_seconds)
        shutil.rmtree(self.temporary, ignore_errors=True)
        status = self.poll()
        return status if status is not None else 128 + signal.SIGKILL

    def kill(self) -> int:
        """Kill every process of the container at once; return the exit status (137)."""
        return self.stop(0)

    def remove(self) -> None:
        """Delete the container's folder; it must have ended. The log stays if it is kept elsewhere."""
        if self.poll() is None:
            raise ContainerError(f"{self.name} still runs: stop it before its folder is removed")
        shutil.rmtree(self.directory, ignore_errors=True)


def _argv(image: Image, command: Sequence[str] | None, args: Sequence[str] | None) -> list[str]:
    """Combine ENTRYPOINT and CMD with what the caller replaces, by the rules that Kubernetes documents."""
    if command:
        return [*command, *(args or ())]
    return [*image.entrypoint, *(image.cmd if args is None else args)]


def _program(image: Image, name: str, folder: Path) -> str:
    """Return the path of a program of the image, or its name where the image does not have it."""
    if "/" in name:
        return str(folder / name) if not name.startswith("/") else _inside(image, name)
    for place in image.env.get("PATH", "").split(os.pathsep):
        path = image.rootfs / place.lstrip("/") / name
        if place and path.is_file():
            return str(path)
    return name


def _inside(image: Image, part: str) -> str:
    """Turn the absolute path of a file of the image into where it lies on this machine."""
    if part.startswith("/"):
        path = image.rootfs / part.lstrip("/")
        if path.is_file():
            return str(path)
    return part


def _working_directory(image: Image, workdir: str | None) -> Path:
    path = image.rootfs / (workdir or image.workdir or "/").lstrip("/")
    return path if path.is_dir() else image.rootfs


def _environment(image: Image, env: Mapping[str, str], directory: Path, address: str) -> dict[str, str]:
    try:
        tools = vllm.commands()
    except vllm.NotInstalledError as error:
        raise ContainerError(str(error)) from error
    own = {
        **vllm.environment(),
        **model.hub_environment(),
        "PATH": os.pathsep.join((str(tools), "/usr/local/bin", "/usr/bin", "/bin")),
        "HOME": str(directory / "home"),
        "BERTH_HOST": address,
        "BERTH_TERMINATION_LOG": str(directory / "termination-log"),
        "BERTH_DOOR_PYTHON": sys.executable,  # this project's own environment has the queue door's packages
    }
    return {**image.env, **env, **own}
