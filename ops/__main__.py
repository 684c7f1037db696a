"""Runs the `berth` command: `python -m ops`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from ops.cli import app

        app(prog_name="berth")
    except KeyboardInterrupt:
        sys.exit(130)
