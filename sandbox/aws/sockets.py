"""Sockets to listen on, with or without TLS, and why one cannot be had."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.aws.routing import Tls


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        OSError: it is in use, or this user may not.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


def why_not(error: OSError, address: str, port: int) -> str:
    """Say in one line why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {address} is in use on this machine; free it or choose another listener port"
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {port}; choose a listener port of 1024 or higher"
    return f"port {port} of {address} cannot be listened on: {error}"


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return what a listener needs to end TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.only_1_3 else ssl.TLSVersion.TLSv1_2
    # OpenSSL reads files only: this one is in memory, and nobody else's.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(tls.private_key + b"\n" + tls.certificate)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
