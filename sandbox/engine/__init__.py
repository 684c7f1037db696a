"""An embedded Pulumi engine for the stack `local`: the same program, plugins and state as with the CLI."""

from __future__ import annotations

import os

# Children run another program at once: gRPC need not, and cannot always, prepare itself for the fork.
# It reads this when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from sandbox.engine.display import Display, LiveDisplay, make_display
from sandbox.engine.engine import SUPPORTED_STACK, Engine
from sandbox.engine.errors import CancelledError, EngineError, LockedError, UnsupportedError
from sandbox.engine.result import Result

__all__ = [
    "SUPPORTED_STACK",
    "CancelledError",
    "Display",
    "Engine",
    "EngineError",
    "LiveDisplay",
    "LockedError",
    "Result",
    "UnsupportedError",
    "make_display",
]
