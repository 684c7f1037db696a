"""`python -m sandbox.runpod`: serves the platform until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path

from sandbox.processes import announce, stop_event
from sandbox.runpod.cloud import CloudError, RunpodCloud
from sandbox.runpod.launcher import ContainerLauncher
from sandbox.runpod.registry import EcrRegistry

_OPEN_FILES = 16_384


def main() -> int:
    """Run and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.runpod", description=__doc__)
    parser.add_argument("--port", type=int, default=4567, help="port to listen on (default 4567)")
    parser.add_argument("--key", default=os.environ.get("RUNPOD_API_KEY"), help="else RUNPOD_API_KEY")
    parser.add_argument("--block", type=int, default=0, help="loopback block, 0 to 250 (default 0)")
    parser.add_argument("--dir", type=Path, help="where state is kept (default: a temporary folder)")
    parser.add_argument("--registry", help="URL of the registry that holds the images")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="platform seconds in one of this machine's (default 1)"
    )
    options = parser.parse_args()
    if not options.key:
        parser.error("no API key: give --key, or set RUNPOD_API_KEY")
    if not 0 <= options.block <= 250:
        parser.error(f"--block {options.block} must be 0 to 250")
    if not options.speed > 0:
        parser.error(f"--speed {options.speed:g} must be more than 0")
    # Every client, worker and poll is a connection; systems allow 1,024 files unless they are asked for more.
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(most, _OPEN_FILES)), most))
    stopped = stop_event()
    with contextlib.ExitStack() as stack:
        directory = options.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runpod-")))
        cloud = RunpodCloud(
            key=options.key,
            directory=directory,
            launcher=ContainerLauncher(directory / "images", options.registry),
            images=EcrRegistry(options.registry) if options.registry else None,
            block=options.block,
            port=options.port,
            speed=options.speed,
        )
        try:
            with cloud:
                announce({"endpoint": cloud.endpoint})
                stopped.wait()
        except CloudError as error:
            print(f"sandbox.runpod: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
