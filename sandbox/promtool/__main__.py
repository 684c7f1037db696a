"""Builds promtool: `python -m sandbox.promtool`."""

from __future__ import annotations

import sys

from sandbox import promtool

if __name__ == "__main__":
    try:
        print(promtool.ensure(lambda line: print(line, file=sys.stderr, flush=True)))
    except promtool.PromtoolError as error:
        sys.exit(str(error))
