"""Where the sandbox keeps what is costly to make and the same for every project: the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """Return `BERTH_CACHE_DIR`, or "berth" in the user's cache folder; it need not exist yet."""
    chosen = os.environ.get("BERTH_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "berth"
