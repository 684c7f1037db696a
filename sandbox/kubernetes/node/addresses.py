"""The addresses of pods: a loopback address that programs use, and the address that the cluster's API shows.

The API refuses loopback addresses in EndpointSlices. So the pod that is reached at 127.B.2.n is 10.B.2.n in
the API, an address that, as on a real cluster, only the cluster's own nodes know the way to. The pod's
processes themselves listen on a third address, 127.B.130.n, behind the pod's gate (`gates.py`).
"""

from __future__ import annotations

import socket

# From the third octet of the pods' addresses to that of the addresses behind their gates.
_INSIDE_OFFSET = 128
# Nothing is sent to it: who holds this UDP port of an address has reserved the address.
_RESERVATION_PORT = 10250


class NoAddressError(RuntimeError):
    """Every address of the pod network is taken."""


class Reservation:
    """A pod's address, held until `release`, or until this process ends.

    Args:
        local: the loopback address.
    """

    def __init__(self, local: str, holder: socket.socket) -> None:
        self.local = local
        self._holder = holder

    @property
    def public(self) -> str:
        """The address as the cluster's API shows it."""
        return to_public(self.local)

    @property
    def inside(self) -> str:
        """The address that the pod's own processes listen on."""
        first, second, third, fourth = self.local.split(".")
        return f"{first}.{second}.{int(third) + _INSIDE_OFFSET}.{fourth}"

    def release(self) -> None:
        """Let the next pod have the address."""
        self._holder.close()


def reserve(network: str, recorded: str | None = None) -> Reservation:
    """Reserve a free address of a network that all nodes of a cluster share.

    Args:
        network: the first three octets, as "127.77.2".
        recorded: the address that the API shows for the pod already: after a restart of the node, clients
            still hold it. It is taken again if it is free.

    Raises:
        NoAddressError: none is free.
    """
    preferred = [to_local(recorded)] if recorded else []
    for address in (*preferred, *(f"{network}.{octet}" for octet in range(1, 255))):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind((address, _RESERVATION_PORT))
        except OSError:
            holder.close()
            continue
        return Reservation(address, holder)
    raise NoAddressError(f"no address is free in {network}.0/24")


def to_public(local: str) -> str:
    """Return how the API shows a loopback address."""
    return "10" + local.removeprefix("127")


def to_local(public: str) -> str:
    """Return the loopback address that is behind a pod's address of the API."""
    return "127" + public.removeprefix("10") if public.startswith("10.") else public
