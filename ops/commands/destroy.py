"""`berth destroy`: deletes everything of a deployment."""

from __future__ import annotations

from ops.change_records import recorded
from ops.options import AsJson, StackName, Yes
from ops.stacks import open_stack


def destroy(stack: StackName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete every resource of the deployment, in the order of their dependencies. The stack file stays."""
    opened = open_stack(stack)
    with recorded(opened, "destroy", asks=not yes):
        opened.destroy(yes=yes, as_json=as_json)
