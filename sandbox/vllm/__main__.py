"""Installs the sandbox's vLLM environment: `python -m sandbox.vllm`."""

from __future__ import annotations

import sys

from sandbox import vllm

if __name__ == "__main__":
    try:
        print(vllm.ensure(lambda line: print(line, file=sys.stderr, flush=True)))
    except vllm.InstallError as error:
        sys.exit(str(error))
