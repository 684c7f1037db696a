"""`berth refresh`: takes over into the state what has changed outside."""

from __future__ import annotations

from ops.options import AsJson, StackName, Yes
from ops.stacks import open_stack


def refresh(stack: StackName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Read every resource from its cloud and take what has changed into the state; clouds are not changed."""
    open_stack(stack).refresh(yes=yes, as_json=as_json)
