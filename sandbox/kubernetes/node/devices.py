"""The node's GPUs: announced as a device plugin does, and handed out, each to one container at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kubernetes.node.api import Object

RESOURCE = "nvidia.com/gpu"


class NoDeviceError(RuntimeError):
    """Fewer GPUs are free than a pod asks for."""


class Devices:
    """The GPUs of a node.

    Args:
        count: how many it has.
        announced: whether the node's image has a device plugin in it, so that they can be used at once.
    """

    def __init__(self, count: int, *, announced: bool) -> None:
        self.count = count
        self._owners: dict[int, str] = {}
        self._lock = threading.Lock()
        self._plugins = 1 if announced else 0
        self._known = announced
        self.changed: Callable[[], None] = lambda: None

    def resources(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the GPUs are in the node's capacity and in what is allocatable.

        As with the kubelet, a resource that a plugin has announced once stays in the capacity when the plugin
        is gone, and none of it can be used.
        """
        if not self.count or not self._known:
            return {}, {}
        usable = self.count if self._plugins else 0
        return {RESOURCE: str(self.count)}, {RESOURCE: str(usable)}

    def plugin_began(self) -> None:
        """Take note that a device plugin has registered."""
        with self._lock:
            self._plugins += 1
            self._known = True
        self.changed()

    def plugin_ended(self) -> None:
        """Take note that a device plugin is gone; what containers were given they keep."""
        with self._lock:
            self._plugins -= 1
        self.changed()

    def take(self, pod: Object) -> dict[str, list[int]]:
        """Give a pod's containers the GPUs in their limits; return their indexes by container.

        Raises:
            NoDeviceError: not enough are free; nothing is taken then.
        """
        given: dict[str, list[int]] = {}
        with self._lock:
            usable = range(self.count if self._plugins else 0)
            free = [index for index in usable if index not in self._owners]
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
