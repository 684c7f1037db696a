"""Runs a Pulumi program in a process of its own, as Pulumi's Python language host does.

Started by `sandbox.engine.program` with the Python of the environment; it imports nothing but Pulumi's SDK,
so that the program finds the modules that it would find under the CLI.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pulumi
import pulumi.runtime

# The status by which the language host says that the user has been told.
_TOLD = 32


def main() -> int:
    """Run the program; return the exit status."""
    parser = argparse.ArgumentParser()
    for name in ("monitor", "engine", "project", "stack", "root", "parallel"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--preview", action="store_true")
    parser.add_argument("program")
    arguments = parser.parse_args()
    parallel = int(arguments.parallel)
    pulumi.runtime.set_all_config(
        pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env()
    )
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=arguments.project,
            stack=arguments.stack,
            parallel=parallel,
            engine=arguments.engine,
            monitor=arguments.monitor,
            dry_run=arguments.preview,
            organization="organization",
            root_directory=arguments.root,
        )
    )
    sys.argv = [arguments.program]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # A program that stops half-way leaves futures that nobody asks for; asyncio would complain of each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # Four threads for each resource at once: the SDK's calls block, and some wait for others.
    with ThreadPoolExecutor(max(parallel, 1) * 4) as executor:
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _run(arguments.program)))
        except SystemExit as end:
            if end.code in (None, 0):
                return 0
            if isinstance(end.code, str):
                pulumi.log.error(end.code)
            return _TOLD
        except pulumi.RunError as error:
            pulumi.log.error(str(error))
            return _TOLD
        except Exception:  # noqa: BLE001  # a program may fail with anything, and its author wants to see where
            pulumi.log.error(f"the program failed:\n{_own_traceback(Path(arguments.program))}")
            return _TOLD
    return 0


def _run(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


def _own_traceback(program: Path) -> str:
    """Return the traceback of the current exception from the program's own first frame on."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    for index, frame in enumerate(frames):
        if Path(frame.filename).is_relative_to(program):
            return traceback.format_exc(limit=index - len(frames))
    return traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main())
