"""Registers the node with the cluster and keeps its status and its lease alive."""

from __future__ import annotations

import logging
import os
import platform
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kubernetes import binaries
from sandbox.kubernetes.node.api import Api, ApiError, Object
from sandbox.kubernetes.node.events import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.kubernetes.node.devices import Devices

KUBELET_PORT = 10250
_LOG = logging.getLogger(__name__)
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LEASE_SECONDS = 40
_HEARTBEAT_SECONDS = 10.0
# The status is written again now and then, although nothing in it changes, as the kubelet does.
_STATUS_EVERY = 6
_PODS = 110
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True)
class Description:
    """What a node says of itself.

    Args:
        name: its name.
        address: its loopback address.
        provider_id: the instance it is on, as "aws:///us-east-1a/i-0abc".
        labels: its own, over those that every node has.
        taints: as the API has them.
    """

    name: str
    address: str
    provider_id: str
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]

    def capacity(self) -> dict[str, str]:
        """Return its resources, which are this machine's."""
        memory_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        return {
            "cpu": str(os.cpu_count() or 1),
            "memory": f"{memory_kib}Ki",
            "ephemeral-storage": "100Gi",
            "pods": str(_PODS),
        }


class Registration:
    """The node's object and its lease.

    Args:
        api: where they are.
        description: what the node says of itself.
        devices: its GPUs.
    """

    def __init__(self, api: Api, description: Description, devices: Devices) -> None:
        self._api = api
        self._description = description
        self._devices = devices
        self._devices_changed = threading.Event()
        devices.changed = self._devices_changed.set
        self._path = f"/api/v1/nodes/{description.name}"
        self._stopped = threading.Event()
        self._uid = ""
        self._since = timestamp()

    def register(self) -> None:
        """Make the node's object, or take over the one that is there, and begin to send heartbeats.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        about = self._description
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        labels = {
            "kubernetes.io/hostname": about.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
            **about.labels,
        }
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": about.name, "labels": labels},
            "spec": {"providerID": about.provider_id, "taints": list(about.taints)},
        }
        try:
            made = self._api.create("/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
            # Taints may be changed by others only, once the node is there: so it is with a real node.
            made = self._api.patch(self._path, {"metadata": {"labels": labels}})
        self._uid = made["metadata"]["uid"]
        self._renew_lease()
        self._write_status(ready=True)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def leave(self) -> None:
        """Say that the node stops; it is not deleted, which is for who terminates its instance."""
        self._stopped.set()
        self._devices_changed.set()
        try:
            self._write_status(ready=False)
        except ApiError as error:
            _LOG.warning("the node's status cannot be written: %s", error)

    def _beat(self) -> None:
        count = 0
        unwritten = False
        while not self._stopped.is_set():
            unwritten |= self._devices_changed.wait(_HEARTBEAT_SECONDS)
            self._devices_changed.clear()
            count += 1
            if self._stopped.is_set():
                return
            try:
                self._renew_lease()
                if unwritten or count % _STATUS_EVERY == 0:
                    self._write_status(ready=True)
                unwritten = False
            except ApiError as error:
                _LOG.warning("heartbeat: %s", error)

    def _renew_lease(self) -> None:
        name = self._description.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            self._api.patch(f"{_LEASES}/{name}", {"spec": spec})
        except ApiError as error:
            if error.status != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "ownerReferences": [owner]},
                "spec": spec,
            }
            self._api.create(_LEASES, lease)

    def _write_status(self, *, ready: bool) -> None:
        about = self._description
        own = about.capacity()
        gpus, usable_gpus = self._devices.resources()
        self._api.patch(
            f"{self._path}/status",
            {
                "status": {
                    "capacity": own | gpus,
                    "allocatable": own | usable_gpus,
                    "addresses": [
                        {"type": "InternalIP", "address": about.address},
                        {"type": "Hostname", "address": about.name},
                    ],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
                    "nodeInfo": _node_info(about.name),
                    "conditions": [
                        self._condition("Ready", "True", "KubeletReady", "the sandbox's node runs pods")
                        if ready
                        else self._condition("Ready", "False", "KubeletNotReady", "the sandbox's node stops"),
                        *(self._condition(kind, "False", "Sufficient", "") for kind in _PRESSURES),
                    ],
                }
            },
        )

    def _condition(self, kind: str, value: str, reason: str, message: str) -> Object:
        now = timestamp()
        since = self._since if value != "False" or kind != "Ready" else now
        return {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }


def _node_info(name: str) -> dict[str, str]:
    machine = Path("/etc/machine-id")
    identity = machine.read_text().strip() if machine.exists() else name
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {
        "machineID": identity,
        "systemUUID": identity,
        "bootID": boot,
        "kernelVersion": platform.release(),
        "osImage": "Berth sandbox",
        "containerRuntimeVersion": "berth://1",
        "kubeletVersion": binaries.version(),
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
