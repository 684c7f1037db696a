"""Pulumi's file backend: where a stack's state, lock, backup and history lie, and how they are written."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from sandbox.engine.errors import EngineError, LockedError
from sandbox.engine.state import Codec, Snapshot, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Backend:
    """The stored state of one stack.

    Args:
        root: the folder that `file://` backend URLs name.
        project: the project's name.
        stack: the stack's name.
        codec: reads and writes the state itself.
    """

    def __init__(self, root: Path, project: str, stack: str, codec: Codec) -> None:
        self._home = root / ".pulumi"
        self._project, self._stack = project, stack
        self._codec = codec
        self._saved_before = False
        self.path = self._home / "stacks" / project / f"{stack}.json"

    def load(self) -> Snapshot:
        """Read the state; a stack that does not exist yet is empty.

        Raises:
            EngineError: the file is damaged, or made with features that this engine lacks.
        """
        if not self.path.exists():
            if (other := self.path.with_name(self.path.name + ".gz")).exists():
                raise EngineError(f"{other} is compressed, which the embedded engine does not read")
            return Snapshot()
        try:
            data = json.loads(self.path.read_text())
        except ValueError as error:
            raise EngineError(
                f"the state in {self.path} is damaged ({error}): restore {self.path.name}.bak beside it"
            ) from error
        return self._codec.read_checkpoint(data)

    def save(self, snapshot: Snapshot) -> None:
        """Write the state so that whatever happens either the old one or the new one is whole on disk.

        Raises:
            EngineError: it cannot be written, for example because the disk is full; the old state stands.
        """
        name = f"organization/{self._project}/{self._stack}"
        text = json.dumps(self._codec.checkpoint(name, snapshot), separators=(",", ":"), ensure_ascii=False)
        try:
            if not self._saved_before:
                self._ensure_layout()
                if self.path.exists():
                    _write_atomically(self.path.with_name(self.path.name + ".bak"), self.path.read_text())
                self._saved_before = True
            _write_atomically(self.path, text)
            # The CLI keeps a checksum beside the file, which would no longer be true.
            self.path.with_name(self.path.name + ".attrs").unlink(missing_ok=True)
        except OSError as error:
            raise EngineError(
                f"the state cannot be written to {self.path} ({error.strerror or error}): what was there "
                "before is unharmed; make room or give access, then run the same command again"
            ) from error

    def _ensure_layout(self) -> None:
        _make_private(self.path.parent)
        meta = self._home / "meta.yaml"
        if not meta.exists():
            _write_atomically(meta, "version: 1\n")

    def record_history(self, update: dict[str, Any]) -> None:
        """Add what was done to the history that `pulumi stack history` shows."""
        folder = self._home / "history" / self._project / self._stack
        _make_private(folder)
        prefix = f"{self._stack}-{time.time_ns()}"
        _write_atomically(folder / f"{prefix}.history.json", json.dumps(update))
        if self.path.exists():
            _write_atomically(folder / f"{prefix}.checkpoint.json", self.path.read_text())

    @contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the stack's lock, as the CLI does, so that both exclude each other.

        Args:
            say: told when the lock of a process that is gone is taken over.

        Raises:
            LockedError: another process holds it.
        """
        folder = self._home / "locks" / "organization" / self._project / self._stack
        own = folder / f"{uuid.uuid4()}.json"
        content = {
            "pid": os.getpid(),
            "username": getpass.getuser(),
            "hostname": socket.gethostname(),
            "timestamp": now(),
        }
        try:
            _make_private(folder)
            self._ensure_layout()
            # The CLI writes first and looks for others afterwards, and two may so refuse each other. Among
            # engines this guard makes looking and writing one step.
            with FileLock(folder.parent / f".{self._stack}.guard"):
                self._refuse_others(folder, say)
                _write_atomically(own, json.dumps(content))
                try:
                    self._refuse_others(folder, say, own)
                except LockedError:
                    own.unlink()
                    raise
        except OSError as error:
            raise EngineError(f"the stack cannot be locked in {folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            own.unlink(missing_ok=True)

    def _refuse_others(self, folder: Path, say: Callable[[str], None], own: Path | None = None) -> None:
        for path in sorted(folder.glob("*.json")):
            if path == own:
                continue
            try:
                lock = json.loads(path.read_text())
            except FileNotFoundError:
                continue
            except ValueError:
                lock = {}
            holder = (
                f"{lock.get('username', '?')}@{lock.get('hostname', '?')} (process {lock.get('pid', '?')}) "
                f"since {lock.get('timestamp', '?')}"
            )
            if _is_dead(lock):
                say(f"the lock of {holder} is taken over: that process is gone")
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".attrs").unlink(missing_ok=True)
                continue
            raise LockedError(
                f"the stack {self._stack} is locked by {holder}: wait for it to end, or if it no longer "
                f"runs remove {path}"
            )


def _is_dead(lock: dict[str, Any]) -> bool:
    """Say whether a lock's process on this host is gone, or its pid has passed to a younger process."""
    if lock.get("hostname") != socket.gethostname():
        return False
    try:
        started = psutil.Process(int(lock["pid"])).create_time()
        # A clock tick of slack: the start of a process is known to a hundredth of a second only.
        return bool(started > datetime.fromisoformat(lock["timestamp"]).timestamp() + 1)
    except psutil.NoSuchProcess:
        return True
    except (KeyError, ValueError):
        return False


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner only.

    The passphrase of the stack `local` is public, so that its state must not be readable by others.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _write_atomically(path: Path, text: str) -> None:
    """Write a file for its owner only: it is there whole, or as it was before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
