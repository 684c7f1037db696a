"""What the containers of a pod share with it and with their node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.kubernetes.node import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sandbox.kubernetes.node.addresses import Reservation
    from sandbox.kubernetes.node.api import Api, Object
    from sandbox.kubernetes.node.devices import Devices
    from sandbox.kubernetes.node.egress import EgressServer
    from sandbox.kubernetes.node.events import Events
    from sandbox.kubernetes.node.gates import Gates
    from sandbox.kubernetes.node.images import NodeImages
    from sandbox.kubernetes.node.pod_identity import PodIdentity

_DEFAULT_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class NodeContext:
    """What the pods of a node share.

    Args:
        name: the node's.
        address: its loopback address.
        pod_network: the first three octets of the pods' addresses.
        api_server: host and port.
        directory: where pods have their folders.
        host: the folder that stands for the node's file system, for `hostPath` volumes.
        allocatable: its resources.
        api, events, images, devices, gates, egress, identity: what it works with.
        services: returns the cluster's Services.
    """

    name: str
    address: str
    pod_network: str
    api_server: tuple[str, str]
    directory: Path
    host: Path
    allocatable: Mapping[str, str]
    api: Api
    events: Events
    images: NodeImages
    devices: Devices
    gates: Gates
    egress: EgressServer
    identity: PodIdentity
    services: Callable[[], list[Object]]


@dataclass
class PodContext:
    """A pod, once it has its address and its volumes.

    Args:
        node: where it is.
        pod: the pod as the API has it, replaced with each change.
        directory: its folder.
        address: its address.
        volumes: its volumes' folders by name.
        gpus: the indexes of the GPUs it was given, by container.
    """

    node: NodeContext
    pod: Object
    directory: Path
    address: Reservation
    volumes: Mapping[str, Path] = field(default_factory=dict)
    gpus: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return str(self.pod["metadata"]["uid"])

    @property
    def key(self) -> str:
        """Namespace and name, as logs have them."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def pod_words(self) -> str:
        """The pod as the kubelet's messages have it."""
        metadata = self.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    @property
    def grace_seconds(self) -> float:
        """How long its containers may take to stop."""
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS))

    def fields(self) -> dict[str, str]:
        """Return what `fieldRef` gives for status and node.

        A container gets the address that it can listen on, not the one that others reach it by.
        """
        return {
            "spec.nodeName": self.node.name,
            "status.hostIP": self.node.address,
            "status.hostIPs": self.node.address,
            "status.podIP": self.address.inside,
            "status.podIPs": self.address.inside,
        }

    def environment(self, container: Object) -> dict[str, str]:
        """Return a container's environment.

        Raises:
            ConfigError: something it refers to is missing.
            ApiError: the API server refused or did not answer.
        """
        variables = environment.build(
            self.node.api,
            self.pod,
            container,
            services=self.node.services(),
            api_server=self.node.api_server,
            fields=self.fields(),
            allocatable=self.node.allocatable,
        )
        gpus = self.gpus.get(container["name"], [])
        # What NVIDIA's device plugin and container runtime set; "void" is no GPU at all.
        devices = ",".join(map(str, gpus)) or "void"
        return {"HOSTNAME": self.pod["metadata"]["name"], "NVIDIA_VISIBLE_DEVICES": devices} | variables
