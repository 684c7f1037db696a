"""Keeps what `up` and `destroy` did, also when they fail: what was deployed has to outlive its teardown."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import yaml

from infra import serving
from ops import console, records
from ops.errors import OpsError, RefusedError, UsageError
from ops.stacks import STACKS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.stacks import Stack

# By name, so that an output which is a secret, or is made one later, cannot get into a record.
_OUTPUTS = ("targets", "model", "models", "task", "image", "endpoints", "cluster_name")
_SAID_BY_ANOTHER = "it failed; the reason is in what the Pulumi CLI wrote"


@contextmanager
def recorded(stack: Stack, verb: Literal["up", "destroy"], *, asks: bool) -> Iterator[None]:
    """Keep a record of what is done inside, with the error that it ends with, if it does.

    A refusal to begin (`UsageError`, `RefusedError`) is none of a deployment's facts, and is not kept.

    Args:
        stack: the stack that is changed.
        verb: what is done to it.
        asks: whether a question is in the time that it takes.

    Raises:
        UsageError: there is a question, and nobody to answer it.
    """
    if asks:
        console.refuse_without_terminal(verb)
    before = _resources(stack) if verb == "destroy" else None
    begun_at, clock = datetime.now(UTC), time.monotonic()

    def keep(problem: str | None) -> None:
        document = {
            "stack": stack.name,
            "ok": problem is None,
            "problem": problem,
            "begun_at": begun_at.isoformat(),
            "duration_seconds": round(time.monotonic() - clock, 1),
            "asked": asks,
            "resources": _resources(stack),
        }
        more = _deployed(stack) if verb == "up" else {"resources_before": before}
        records.keep(stack.name, verb, {**document, **more})

    try:
        yield
    except (UsageError, RefusedError):
        raise
    except KeyboardInterrupt:
        keep("interrupted")
        raise
    except OpsError as error:
        keep(str(error) or _SAID_BY_ANOTHER)
        raise
    keep(None)


def _resources(stack: Stack) -> dict[str, int] | None:
    """Return what the state has; None where it cannot be read, which is no reason to stop."""
    try:
        return stack.resources()
    except OpsError:
        return None


def _deployed(stack: Stack) -> dict[str, Any]:
    settings = stack.settings
    try:
        outputs = stack.outputs(show_secrets=False)
    except OpsError:
        outputs = {}
    return {
        "outputs": {name: outputs[name] for name in _OUTPUTS if name in outputs},
        "arguments": list(serving.spec(settings).args),
        "settings": settings_in_file(stack.name),
    }


def settings_in_file(name: str) -> dict[str, Any]:
    """Return what a stack's file says, without what is encrypted in it.

    Args:
        name: the stack's name.
    """
    config = yaml.safe_load((STACKS_FOLDER / f"Pulumi.{name}.yaml").read_text())["config"]
    return {
        key: "[secret]" if isinstance(value, dict) and list(value) == ["secure"] else value
        for key, value in config.items()
    }
