"""What is left of a container that has ended, and what keeps it from starting: the kubelet's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kubernetes.node.environment import ConfigError
from sandbox.kubernetes.node.events import timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.containers import Image
    from sandbox.kubernetes.node.api import Object

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES, _FALLBACK_LINES = 2048, 80


def message(spec: Object, status: int, file: Path, log: Path) -> str:
    """Return a container's termination message: what it wrote, or by policy the end of its log.

    Args:
        spec: the container's spec.
        status: what it ended with.
        file: where its `terminationMessagePath` is.
        log: its output.
    """
    if file.exists() and (content := file.read_bytes()):
        return content[:_MESSAGE_BYTES].decode(errors="replace")
    if status and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        tail = log.read_bytes()[-_FALLBACK_BYTES:].decode(errors="replace")
        return "".join(tail.splitlines(keepends=True)[-_FALLBACK_LINES:])
    return ""


def with_its_node(began: str | None) -> Object:
    """Return the state of a container that ran when its node ended."""
    return {
        "terminated": {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": "The container was ended with its node.",
            "startedAt": began,
            "finishedAt": timestamp(),
        }
    }


def check_user(pod: Object, spec: Object, image: Image) -> None:
    """Apply `runAsNonRoot`, the one part of a security context that can be checked before the start.

    Raises:
        ConfigError: the container would run as root, or nobody can tell.
    """
    context = {**(pod["spec"].get("securityContext") or {}), **(spec.get("securityContext") or {})}
    if not context.get("runAsNonRoot"):
        return
    user = context.get("runAsUser")
    if user == 0:
        raise ConfigError("container's runAsUser breaks non-root policy")
    if user is None:
        own = image.user.partition(":")[0]
        if own in {"", "0", "root"}:
            raise ConfigError("container has runAsNonRoot and image will run as root")
        if not own.isdigit():
            raise ConfigError(
                f"container has runAsNonRoot and image has non-numeric user ({own}), cannot verify user is "
                "non-root"
            )


def duration(seconds: float) -> str:
    """Write a duration as Go does: "10s", "1m20s", "5m0s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
