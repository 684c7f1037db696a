"""Where the parts of one sandbox listen: a block of the loopback network, 127.<block>.0.0/16."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Addresses:
    """The addresses of one sandbox.

    Args:
        block: its second octet, 0 to 250.
        port: the port of the AWS API.
    """

    block: int
    port: int

    @property
    def api(self) -> str:
        """The address of the AWS API."""
        return f"127.{self.block}.0.1"

    @property
    def endpoint(self) -> str:
        """The URL of the AWS API and of the image registry."""
        return f"http://{self.api}:{self.port}"

    def control_plane(self, number: int) -> str:
        """Return the address of the Kubernetes control plane of a cluster, counted from 0."""
        return f"127.{self.block}.0.{3 + number}"

    @property
    def pod_network(self) -> str:
        """The first three octets of the addresses of pods."""
        return f"127.{self.block}.2"

    def node(self, number: int) -> str:
        """Return the address of a node, 1 to 254."""
        return f"127.{self.block}.1.{number}"

    def load_balancer(self, number: int) -> str:
        """Return the address of a load balancer, 1 to 254."""
        return f"127.{self.block}.4.{number}"
