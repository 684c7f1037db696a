"""What must be so before any test module is imported."""

from __future__ import annotations

import os

# gRPC reads it when it is first imported, which a test may do before `sandbox.engine` sets it: processes that
# an engine starts would now and then end in a segmentation fault before their program runs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
