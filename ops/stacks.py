"""Finds a stack by its name: its settings, and what deploys it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from infra.settings import Settings, SettingsError, load
from ops.errors import OpsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.drift import Moved

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
STACKS_FOLDER = PROJECT_FOLDER / "stacks"
LOCAL = "local"


class Stack(Protocol):
    """A stack and what can be done with it, whichever engine does it."""

    name: str
    settings: Settings

    def preview(self, *, as_json: bool) -> None:
        """Show what `up` would change."""

    def up(self, *, yes: bool, as_json: bool) -> None:
        """Make the deployment what the stack file says; without `yes`, show the preview and ask."""

    def refresh(self, *, yes: bool, as_json: bool) -> None:
        """Take over into the state what has changed outside."""

    def drift(self) -> list[Moved]:
        """Return the resources that are not any more as the state has them; neither is changed."""

    def destroy(self, *, yes: bool, as_json: bool) -> None:
        """Delete everything of the deployment; the stack file stays."""

    def awake(self) -> bool:
        """Say whether there are accounts to ask; those of the sandbox that died are started again."""

    def outputs(self, *, show_secrets: bool) -> dict[str, Any]:
        """Return the outputs of the last `up`; secrets as `[secret]` unless they are asked for."""

    def resources(self) -> dict[str, int]:
        """Return how many resources of each type the state has.

        Raises:
            OpsError: the state cannot be read.
        """

    def environment(self) -> Mapping[str, str]:
        """Return the variables under which tools work on this stack."""

    def runpod_api(self) -> str:
        """Return the base URL of RunPod's REST API for this stack."""


def names(folder: Path = STACKS_FOLDER) -> list[str]:
    """Return the names of the stacks that have a file, `local` first."""
    found = [path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in folder.glob("Pulumi.*.yaml")]
    return sorted(found, key=lambda name: (name != LOCAL, name))


def settings_of(name: str, folder: Path = STACKS_FOLDER) -> Settings:
    """Return the validated settings of a stack.

    Raises:
        UsageError: there is no such stack.
        OpsError: its file has errors; all of them are in the message.
    """
    if name not in names(folder):
        raise UsageError(
            f"there is no stack {name!r}: {folder.name}/ has {', '.join(names(folder)) or 'none'}."
            f" A new one is a file {folder.name}/Pulumi.<name>.yaml"
        )
    try:
        return load(folder / f"Pulumi.{name}.yaml")
    except SettingsError as error:
        raise OpsError(str(error)) from error


def open_stack(name: str) -> Stack:
    """Return the stack of this name, ready to be worked on.

    Raises:
        UsageError: there is no such stack.
        OpsError: its file has errors.
    """
    settings = settings_of(name)
    # Either engine costs most of a second to import, and a command needs only one of them.
    if name == LOCAL:
        from ops.local import LocalStack  # noqa: PLC0415

        return LocalStack(settings)
    from ops.pulumi_cli import PulumiStack  # noqa: PLC0415

    return PulumiStack(settings)
