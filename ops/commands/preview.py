"""`berth preview`: what `up` would change."""

from __future__ import annotations

from ops.options import AsJson, StackName
from ops.stacks import open_stack


def preview(stack: StackName, as_json: AsJson = False) -> None:
    """Show which resources `up` would create, change or delete, and how. Changes nothing."""
    open_stack(stack).preview(as_json=as_json)
