"""The platform's memory: one JSON file, replaced whole at every change, read again at a restart."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from pathlib import Path


class Store:
    """Resources by id, as the API shows them; releases by endpoint; what ran, for the bill.

    Args:
        directory: where the files are kept; made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "runpod.json"
        self._key_path = directory / "password-key"
        content = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.endpoints: dict[str, dict[str, Any]] = content.get("endpoints", {})
        self.releases: dict[str, list[dict[str, Any]]] = content.get("releases", {})
        self.volumes: dict[str, dict[str, Any]] = content.get("volumes", {})
        self.registries: dict[str, dict[str, Any]] = content.get("registries", {})
        self.delegations: dict[str, dict[str, Any]] = content.get("delegations", {})
        self.runs: list[dict[str, Any]] = content.get("runs", [])
        # One change at a time: rules over several resources are checked before and hold after.
        self.lock = asyncio.Lock()

    def save(self) -> None:
        """Write everything; a full disk or a crash leaves the old file as it was."""
        content = {
            "endpoints": self.endpoints,
            "releases": self.releases,
            "volumes": self.volumes,
            "registries": self.registries,
            "delegations": self.delegations,
            "runs": self.runs,
        }
        unfinished = self._path.with_suffix(".partial")
        _write_private(unfinished, json.dumps(content).encode())
        unfinished.replace(self._path)

    def seal(self, password: str) -> str:
        """Return a password as it may stand in the file."""
        return self._fernet().encrypt(password.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Return the password again."""
        return self._fernet().decrypt(sealed).decode()

    def _fernet(self) -> Fernet:
        if not self._key_path.exists():
            _write_private(self._key_path, Fernet.generate_key())
        return Fernet(self._key_path.read_bytes())


def _write_private(path: Path, content: bytes) -> None:
    # Environments hold tokens: nobody else reads them.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
