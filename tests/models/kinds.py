"""Cuts the model of a stack file to the size of this machine, by settings alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra import serving, settings

if TYPE_CHECKING:
    from infra.serving import ServingSpec

PROJECT = Path(__file__).resolve().parents[2]
_MOST_TOKENS = 2048
_SEQUENCES = 8


def sections(stack: str) -> dict[str, Any]:
    """Return what a stack file says about its model, and about how it is served, as `local` can have it.

    What makes the kind of model what it is stays: task, adapters, pooling, instruction, limits, quantization.
    """
    whole = config(stack)
    model, said = whole["berth:model"], whole.get("berth:serving", {})
    model = {**model, "max_model_len": min(model["max_model_len"], _MOST_TOKENS)}
    if "quantization" not in model:
        model["dtype"] = "float32"  # as `local` has it
    here = config("local")["berth:serving"]
    kept = {
        key: said[key] for key in ("enable_prefix_caching", "environment", "max_audio_mib") if key in said
    }
    return {"berth:model": model, "berth:serving": {**here, **kept, "max_num_seqs": _SEQUENCES}}


def spec(stack: str, **model: Any) -> ServingSpec:
    """Return what the server gets for a stack file's model on this machine, as `up` would compute it.

    Args:
        stack: the name of the stack file.
        model: settings of the model that are to be others.
    """
    whole = {**config("local"), **sections(stack)}
    whole["berth:model"] = {**whole["berth:model"], **model}
    flat = {key: value if isinstance(value, str) else json.dumps(value) for key, value in whole.items()}
    return serving.spec(settings.from_config(flat, "stacks/Pulumi.local.yaml"))


def config(stack: str) -> dict[str, Any]:
    """Return the configuration in a stack file."""
    document = yaml.safe_load((PROJECT / "stacks" / f"Pulumi.{stack}.yaml").read_text())
    whole: dict[str, Any] = document["config"]
    return whole
