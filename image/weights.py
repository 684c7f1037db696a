"""Fetches the files of one commit of a model that vLLM reads: into the image's cache, or on into a bucket.

    weights.py MODEL REVISION              fetch them into the hub's cache (HF_HUB_CACHE)
    weights.py MODEL REVISION s3://B/P     copy them to that address, one after the other

Reads HF_TOKEN for models that are not public. Of the weights, those are taken that the model's index names: a
repository may hold them in other formats too, and the streamer would load every *.safetensors that it finds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import (  # type: ignore[import-not-found]
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError  # type: ignore[import-not-found]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Weights in whatever format: all else is configuration, vocabulary and code, which is small.
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ckpt")
AT_ONCE = 4


def shards(folder: Path) -> list[str]:
    """Return the names of the files that hold the weights."""
    index = folder / INDEX
    if not index.exists():
        return [SINGLE]
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def upload(path: Path, address: str) -> None:
    """Copy a file to its address in a bucket."""
    subprocess.run(["aws", "s3", "cp", "--no-progress", "--only-show-errors", str(path), address], check=True)
    print(f"copied {address}", flush=True)


def main(model: str, revision: str, address: str | None = None) -> None:
    """Fetch a model."""
    folder = Path(snapshot_download(model, revision=revision, ignore_patterns=list(WEIGHTS)))
    if address is not None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not any(path.match(pattern) for pattern in WEIGHTS):
                upload(path, f"{address}/{path.relative_to(folder).as_posix()}")

    def fetch(name: str) -> None:
        was_there = isinstance(try_to_load_from_cache(model, name, revision=revision), str)
        try:
            path = Path(hf_hub_download(model, name, revision=revision))
        except EntryNotFoundError:
            sys.exit(f"{model} at {revision} has no {name}: only weights as safetensors can be taken")
        if address is None:
            print(f"fetched {name}", flush=True)
            return
        upload(path, f"{address}/{name}")
        if not was_there:  # a model may be larger than the builder's disk
            path.resolve().unlink()
            path.unlink(missing_ok=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, shards(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
