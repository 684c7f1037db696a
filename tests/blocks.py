"""Loopback blocks for sandboxes of tests: 127.B.0.0/16, no two at once, whichever processes ask."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

_LOCKS = Path(tempfile.gettempdir()) / "berth-test-blocks"
# Below are the blocks of stack files, above those of tests that need one of a known number.
_BLOCKS = range(100, 240)


class Block(int):
    """A block's second number, taken from all other tests for as long as somebody holds this object.

    The lock goes with the object, and with the process where that is killed.
    """

    lock: FileLock


def free_block() -> Block:
    """Take a block that no test has, and on which nothing listens that a killed test left running."""
    _LOCKS.mkdir(exist_ok=True)
    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp4")
        if connection.status == psutil.CONN_LISTEN
    ]
    for number in _BLOCKS:
        if any(address.startswith(f"127.{number}.") for address in listening):
            continue
        lock = FileLock(_LOCKS / f"{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        block = Block(number)
        block.lock = lock
        return block
    raise RuntimeError(f"every block is taken: who has the files in {_LOCKS}?")
