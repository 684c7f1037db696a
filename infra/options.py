"""The one helper that makes resource options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

if TYPE_CHECKING:
    from collections.abc import Sequence


def child(
    parent: pulumi.Resource,
    *,
    after: Sequence[pulumi.Resource] = (),
    minutes: int | None = None,
    delete_before_replace: bool | None = None,
    protect: bool = False,
    ignore_changes: Sequence[str] = (),
) -> pulumi.ResourceOptions:
    """Return the options of a component's child, which takes its provider from the component.

    Args:
        parent: the component.
        after: what must be there before the child, and may go only when the child is gone.
        minutes: how long it may take to create, change or delete it; None where nothing waits.
        delete_before_replace: its name is fixed, so its successor cannot stand beside it.
        protect: the engine refuses to delete or replace it, and every `destroy` before its first step.
        ignore_changes: paths of properties that somebody else changes once the child is there.
    """
    wait = None if minutes is None else f"{minutes}m"
    return pulumi.ResourceOptions(
        parent=parent,
        depends_on=list(after),
        custom_timeouts=None if wait is None else pulumi.CustomTimeouts(wait, wait, wait),
        delete_before_replace=delete_before_replace,
        protect=protect or None,
        ignore_changes=list(ignore_changes) or None,
    )


def component(*providers: pulumi.ProviderResource) -> pulumi.ResourceOptions:
    """Return the options of a component that gives these providers to its children."""
    return pulumi.ResourceOptions(providers=list(providers))
