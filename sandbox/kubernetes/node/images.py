"""The images of a node: pulled from the sandbox's registry, or played by a stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.images import Image, ImageStore
from sandbox.kubernetes import standins

if TYPE_CHECKING:
    from pathlib import Path


class NodeImages:
    """What containers are made from.

    Args:
        directory: where images are unpacked.
        registry: URL of the sandbox's registry.
        region: whose ECR gives out the registry's token.
    """

    def __init__(self, directory: Path, registry: str, region: str) -> None:
        self._directory = directory
        self._store = ImageStore(directory, registry, region=region)

    def pull(self, reference: str) -> Image:
        """Return an image.

        Raises:
            ImageError: it cannot be had; the message is the registry's.
        """
        stand_in = standins.find(reference)
        if stand_in is not None:
            return standins.unpack(reference, stand_in, self._directory / "stand-ins")
        return self._store.pull(reference)

    def origin(self, reference: str) -> str:
        """Return a few words for an event about where an image came from."""
        if standins.find(reference) is not None:
            return f'The sandbox plays image "{reference}" by a stand-in'
        return f'Successfully pulled image "{reference}"'
