"""The platform's memory: one JSON file, replaced whole at every change, read again at a restart."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Store:
    """Endpoints and delegations by id, as the API shows them; releases by endpoint.

    Args:
        directory: where the file is kept; made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "runpod.json"
        content = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.endpoints: dict[str, dict[str, Any]] = content.get("endpoints", {})
        self.releases: dict[str, list[dict[str, Any]]] = content.get("releases", {})
        self.delegations: dict[str, dict[str, Any]] = content.get("delegations", {})

    def save(self) -> None:
        """Write everything; a full disk or a crash leaves the old file as it was."""
        unfinished = self._path.with_suffix(".partial")
        content = {
            "endpoints": self.endpoints,
            "releases": self.releases,
            "delegations": self.delegations,
        }
        # Environments hold tokens: nobody else reads them.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
