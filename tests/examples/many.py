"""Runs commands of the example `intents` one after the other, in one process that imports PyTorch once.

Reads a JSON list of argument lists, writes a JSON list of what each did: status, stdout, stderr.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from examples.intents.__main__ import main


def run(arguments: list[str]) -> dict[str, str | int]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    print(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]))
