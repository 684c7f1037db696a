"""`berth hub`: writes the listing for RunPod's Hub from a stack's settings."""

from __future__ import annotations

from ops import console
from ops.options import StackName
from ops.stacks import PROJECT_FOLDER, settings_of


def hub(stack: StackName) -> None:
    """Write .runpod/hub.json and .runpod/tests.json, by which RunPod's Hub lists and tests the image."""
    from ops import hub as listing  # noqa: PLC0415  # few commands need the catalogue of GPUs

    for path in listing.write(settings_of(stack), PROJECT_FOLDER / ".runpod"):
        console.say(f"{path.relative_to(PROJECT_FOLDER)} is written")
