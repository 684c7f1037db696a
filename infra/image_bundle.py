"""The image's source as one archive that is the same, byte for byte, wherever it is made."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP archive can hold
_FILE_MODE = 0o100644 << 16
_IGNORED = ("__pycache__",)


@dataclass(frozen=True)
class Bundle:
    """A ZIP archive and the SHA-256 of what is in it, in hexadecimal digits."""

    content: bytes
    sha256: str


def bundle(folder: Path) -> Bundle:
    """Return the files of `folder` as an archive without times, owners, modes or compression.

    Modes are left out on purpose: they differ between clones. The Dockerfile sets those that matter.

    Raises:
        FileNotFoundError: there is no Dockerfile in the folder.
    """
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and not any(part in _IGNORED for part in path.parts)
    )
    if "Dockerfile" not in [name for name, _ in files]:
        raise FileNotFoundError(f"{folder} has no Dockerfile")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = _FILE_MODE
            archive.writestr(entry, path.read_bytes())
    content = buffer.getvalue()
    return Bundle(content, hashlib.sha256(content).hexdigest())
