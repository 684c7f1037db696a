"""Stands for `vllm serve` on a GPU: answers, has no room for some settings, or never gets ready.

FAKE_VLLM_CALLS: the file to which it adds its process id and its arguments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from tests.ops.bench_endpoint import serving

NO_ROOM, NEVER_READY = "512", "3"  # values of --max-num-seqs
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with Path(os.environ["FAKE_VLLM_CALLS"]).open("a") as calls:
        calls.write(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:]}) + "\n")
    sequences = _option("--max-num-seqs")
    if sequences == NO_ROOM:
        print(f"(EngineCore_0 pid=7) {OUT_OF_MEMORY}")
        print("RuntimeError: Engine core initialization failed.")
        sys.exit(1)
    if sequences == NEVER_READY:
        ended.wait(120)
        return
    seconds = 0.4 / int(sequences) ** 2  # more sequences, more throughput
    key = os.environ["VLLM_API_KEY"]
    with serving(_option("--host"), int(_option("--port")), key=key, first_seconds=seconds):
        ended.wait(120)


main()
