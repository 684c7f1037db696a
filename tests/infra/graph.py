"""The program's graph for a stack file, with changes to its sections where a test wants some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ops.graph.answers import GENERATED_KEY, SANDBOX_ENDPOINT, Cloud
from ops.graph.record import Graph, Recorded, Secret, declared, record

__all__ = [
    "ENVIRONMENTS",
    "ROOT",
    "STACKS",
    "Graph",
    "Recorded",
    "Secret",
    "configuration",
    "declared",
    "run",
]

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted(path.name.split(".")[1] for path in (ROOT / "stacks").glob("Pulumi.*.yaml"))
ENVIRONMENTS = ("dev", "local", "prod", "staging")
"""The stacks that differ in where they run; the others differ in what they serve, and in little else."""


def configuration(stack_name: str, **changes: Any) -> dict[str, Any]:
    """Return the configuration in a stack file, with `changes` to its sections."""
    document = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack_name}.yaml").read_text())
    return {**document["config"], **{f"berth:{key}": value for key, value in changes.items()}}


def run(
    stack_name: str,
    *,
    preview: bool,
    aws_endpoint: str = SANDBOX_ENDPOINT,
    generated_key: str = GENERATED_KEY,
    called: str | None = None,
    **changes: Any,
) -> Graph:
    """Run the program for a stack file and return what it registered.

    Args:
        stack_name: whose file.
        preview: whether nothing is made, so that outputs are unknown.
        aws_endpoint: the endpoint of AWS that the environment names.
        generated_key: the API key where the program has one generated.
        called: another name for the stack.
        changes: sections of the file in the place of the file's own.
    """
    return record(
        configuration(stack_name, **changes),
        called or stack_name,
        cloud=Cloud(preview, generated_key),
        aws_endpoint=aws_endpoint,
    )
