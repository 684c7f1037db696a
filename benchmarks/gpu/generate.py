"""Measures Hugging Face's `generate` at the second work of benchmarks.gpu.doors, in fp16.

    python -m benchmarks.gpu.generate --output benchmarks/results/gpu/generate.json MODEL

The model has MODEL's configuration and random weights. It answers one prompt at a time, then batches of 25
and of 256.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.cold_start import machine
from benchmarks.gpu.doors import ANSWER_TOKENS, prompts

_PROMPT_TOKENS = 64
# How many prompts for each size of batch. One at a time is slow and alike: four tell as much as 25.
_BATCHES = {1: 4, 25: 25, 256: 256}


def _answer(model: Any, asked: list[list[int]], tokens: int) -> None:
    ids = torch.tensor(asked, device=model.device)
    limits = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0}
    answered = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **limits)
    if answered.shape != (len(asked), _PROMPT_TOKENS + tokens):
        sys.exit(f"answers of {tuple(answered.shape)}, not of {tokens} tokens")


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("model")
    options = parser.parse_args()
    config = transformers.AutoConfig.from_pretrained(options.model)
    with torch.device(options.device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16).eval()
    rows = []
    with torch.no_grad():
        for size, count in _BATCHES.items():
            _answer(model, prompts(size, _PROMPT_TOKENS, 0), 8)
            asked = prompts(count, _PROMPT_TOKENS, 1)
            begun = time.monotonic()
            for at in range(0, count, size):
                _answer(model, asked[at : at + size], ANSWER_TOKENS)
            rate = count / (time.monotonic() - begun)
            row = {"asked": "generate", "prompt_tokens": _PROMPT_TOKENS, "at_once": size}
            row |= {
                "requests_per_second": round(rate, 3),
                "tokens_per_second": round(rate * ANSWER_TOKENS, 1),
            }
            print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            rows.append(row)
    about = {**machine(sys.executable), "transformers": transformers.__version__}
    command = "python -m benchmarks.gpu.generate --output FILE MODEL"
    options.output.write_text(json.dumps({**about, "command": command, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
