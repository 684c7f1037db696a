"""Starts the sandbox's AWS: `python -m sandbox.aws --port 4566 [--block B] [--dir D]`."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from sandbox import processes


def main() -> int:
    """Run the AWS API until SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.aws", description="AWS on this machine.")
    parser.add_argument("--port", type=int, required=True, help="port of the AWS API")
    parser.add_argument("--block", type=int, default=0, help="loopback block, 0 to 250 (127.<block>.0.1)")
    parser.add_argument(
        "--dir", type=Path, help="where the state is kept; by default a folder that goes at exit"
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.block <= 250:
        parser.error(f"--block is {arguments.block}; it must be 0 to 250")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for chatty in ("httpx", "uvicorn.error", "werkzeug"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = processes.stop_event()
    temporary = None if arguments.dir else Path(tempfile.mkdtemp(prefix="berth-aws-"))
    directory: Path = (temporary or arguments.dir).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    # moto is slow to import: only once the arguments are known to be good.
    from sandbox.aws.account import Account  # noqa: PLC0415

    try:
        account = Account(directory, arguments.block, arguments.port, stop)
        account.start()
    except OSError as error:
        print(f"sandbox.aws cannot start: {error}", file=sys.stderr)
        return 1
    try:
        processes.announce(account.endpoints)
        stop.wait()
    finally:
        account.stop()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        gc.freeze()  # to look through all that moto has made, at exit, takes seconds and is of no use
    return 1 if account.failure else 0


if __name__ == "__main__":
    # moto iterates over sets of strings in places; their order must be the same when the journal is replayed.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "sandbox.aws", *sys.argv[1:]])  # noqa: S606
    sys.exit(main())
