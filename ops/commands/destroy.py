"""`berth destroy`: deletes everything of a deployment."""

from __future__ import annotations

from ops.options import AsJson, StackName, Yes
from ops.stacks import open_stack


def destroy(stack: StackName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete every resource of the deployment, in the order of their dependencies. The stack file stays."""
    open_stack(stack).destroy(yes=yes, as_json=as_json)
