"""The names of workloads and of settings in tables and in comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def in_words(workload: Mapping[str, Any]) -> str:
    """Return a workload of a record in a few words."""
    parts = [f"{workload['concurrency']} at once"]
    if workload["batch_size"] > 1:
        parts.append(f"{workload['batch_size']} inputs each")
    if workload["prompt_tokens"]:
        parts.append(f"{'+'.join(map(str, workload['prompt_tokens']))} tokens in")
    if workload["audio_seconds"]:
        parts.append(f"{workload['audio_seconds']} s of sound")
    if workload["output_tokens"]:
        parts.append(f"{workload['output_tokens']} out")
    return ", ".join(parts)


def settings_in_words(changes: Mapping[str, Any]) -> str:
    """Return changed settings as they are written on the command line."""
    return " ".join(f"{key}={value}" for key, value in changes.items())
