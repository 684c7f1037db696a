"""Hands out the node's GPUs to containers, each GPU to one at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.kubernetes.node.api import Object

RESOURCE = "nvidia.com/gpu"


class NoDeviceError(RuntimeError):
    """Fewer GPUs are free than a pod asks for."""


class Devices:
    """The GPUs of a node.

    Args:
        count: how many it has.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._owners: dict[int, str] = {}
        self._lock = threading.Lock()

    def take(self, pod: Object) -> dict[str, list[int]]:
        """Give a pod's containers the GPUs in their limits; return their indexes by container.

        Raises:
            NoDeviceError: not enough are free; nothing is taken then.
        """
        given: dict[str, list[int]] = {}
        with self._lock:
            free = [index for index in range(self.count) if index not in self._owners]
            for container in pod["spec"]["containers"]:
                limits = (container.get("resources") or {}).get("limits") or {}
                wanted = int(limits.get(RESOURCE, 0))
                if wanted > len(free):
                    raise NoDeviceError(
                        f"Allocate failed due to requested number of devices unavailable for {RESOURCE}. "
                        f"Requested: {wanted}, Available: {len(free)}"
                    )
                given[container["name"]], free = free[:wanted], free[wanted:]
            uid = pod["metadata"]["uid"]
            self._owners.update({index: uid for indexes in given.values() for index in indexes})
        return given

    def release(self, uid: str) -> None:
        """Take back all that a pod was given."""
        with self._lock:
            self._owners = {index: owner for index, owner in self._owners.items() if owner != uid}
