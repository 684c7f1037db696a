"""Passes TCP connections on, byte by byte and unbuffered: what NodePorts and the pods' gates are made of."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0

Endpoint = tuple[str, int]
_Result = TypeVar("_Result")


class Loop:
    """An event loop in a thread of its own, for as long as this process lives."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="network", daemon=True).start()

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin some work; whoever begins it does not wait for its end."""
        asyncio.run_coroutine_threadsafe(_logged(work), self._loop)

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do some work and wait for it; not from the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _logged(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  # nobody else would see what failed here
        _LOG.exception("network")


async def listen(accept: Any, address: str, port: int) -> asyncio.Server:
    """Listen; every connection is given to `accept(reader, writer)`.

    Raises:
        OSError: the address is taken or not this machine's.
    """
    return await asyncio.start_server(accept, address, port, limit=_BLOCK_BYTES)


def peer(writer: asyncio.StreamWriter) -> str:
    """Return the address that a connection comes from."""
    return str((writer.get_extra_info("peername") or ("",))[0])


def refuse(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset, with which nothing of it is left to be read."""
    writer.transport.abort()


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, destination: Endpoint, source: str
) -> None:
    """Connect to a destination and pass everything on in both directions until both sides have ended.

    Args:
        reader: what arrives.
        writer: what goes back.
        destination: where it goes.
        source: the address that the connection is to come from. It is kept where it is a loopback address,
            for only those can be taken without privileges.
    """
    own = (source, 0) if source and ipaddress.ip_address(source).is_loopback else None
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            far_reader, far_writer = await asyncio.open_connection(
                *destination, limit=_BLOCK_BYTES, local_addr=own
            )
    except OSError as error:
        _LOG.info("%s:%d from %s: %s", *destination, source, error)
        refuse(writer)
        return
    try:
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
    except OSError:
        # One side is gone: the other one learns it by a reset.
        refuse(writer)
        refuse(far_writer)
    finally:
        for end in (writer, far_writer):
            end.close()
            with suppress(OSError):
                await end.wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
