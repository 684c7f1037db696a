"""What every record says of the model that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.settings import Settings


def described(settings: Settings) -> dict[str, Any]:
    """Return the model and how it is served, as the stack file has it with all defaults."""
    return {
        "stack": settings.stack,
        "task": settings.model.task,
        "settings": {
            "model": settings.model.model_dump(mode="json"),
            "serving": settings.serving.model_dump(mode="json"),
        },
    }
