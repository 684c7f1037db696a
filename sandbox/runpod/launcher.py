"""Starts a worker's container; the one place where the platform meets the sandbox's container runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sandbox.containers import Container, ContainerError, ImageError, ImageStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_REGION = re.compile(r"\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")


class LaunchError(RuntimeError):
    """A container cannot be started; the message is fit for the worker's log."""


@dataclass(frozen=True)
class Launch:
    """What a worker is to run.

    Args:
        name: the worker's id.
        image: by tag or digest.
        args: in the place of the image's CMD; None keeps it.
        env: over the image's ENV; with secrets in it.
        address: the worker's own loopback address.
        directory: the worker's own folder.
        log_path: where its output goes.
    """

    name: str
    image: str
    args: tuple[str, ...] | None
    env: Mapping[str, str] = field(repr=False)
    address: str
    directory: Path
    log_path: Path


class Running(Protocol):
    """A started container."""

    def poll(self) -> int | None:
        """Return the exit status once it has ended."""

    def stop(self, grace_seconds: float = ...) -> int:
        """Send SIGTERM, wait, kill what is left; return the exit status."""

    def kill(self) -> int:
        """Kill every process of it at once; return the exit status."""

    def remove(self) -> None:
        """Delete its folder."""


class Launcher(Protocol):
    """Starts containers; may block."""

    def start(self, launch: Launch) -> Running:
        """Pull the image if need be and start it.

        Raises:
            LaunchError: it cannot be started.
        """


class ContainerLauncher:
    """The sandbox's container runtime.

    Args:
        images: the folder of unpacked images.
        registry_url: the sandbox's registry; None for one that can pull nothing.
    """

    def __init__(self, images: Path, registry_url: str | None) -> None:
        self._images = images
        self._registry_url = registry_url

    def start(self, launch: Launch) -> Running:
        """Pull the image unless its digest is here, and start it."""
        region = _REGION.search(launch.image)
        try:
            store = ImageStore(
                self._images, self._registry_url, region=region["region"] if region else "us-east-1"
            )
            return Container.start(
                store.pull(launch.image),
                name=launch.name,
                directory=launch.directory,
                address=launch.address,
                log_path=launch.log_path,
                args=launch.args,
                env=launch.env,
            )
        except (ImageError, ContainerError) as error:
            raise LaunchError(str(error)) from error
