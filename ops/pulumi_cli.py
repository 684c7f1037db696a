"""Every stack but `local`, by the Pulumi CLI: the one on PATH, or else the SDK's own version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulumi import _version as sdk
from pulumi.automation import PulumiCommand
from semver import VersionInfo

from infra.runpod.connection import URL_VARIABLE
from infra.settings import PROJECT
from ops import console
from ops.children import run_in_foreground
from ops.drift import Moved
from ops.errors import OpsError, SilentFailureError
from ops.stacks import PROJECT_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from infra.settings import Settings

# The oldest CLI that the program and its tests have run with.
MINIMUM = VersionInfo(3, 260, 0)
HOW_TO_GET_IT = "see https://www.pulumi.com/docs/iac/download-install/ and put `pulumi` on PATH"
_EXPORT_LIMIT_SECONDS = 60
RUNPOD_API = "https://api.runpod.io/v2"


def version_of(executable: str) -> VersionInfo:
    """Return the version of a Pulumi CLI.

    Raises:
        OpsError: the program cannot be run or does not say its version.
    """
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        said = subprocess.run(
            [executable, "version"], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        return VersionInfo.parse(said.removeprefix("v"))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise OpsError(f"{executable} does not say its version: {error}") from error


def find_cli() -> str | None:
    """Return the Pulumi CLI on PATH or as installed by a former `berth`, if there is one.

    Raises:
        OpsError: the one on PATH is too old.
    """
    found = shutil.which("pulumi")
    if found is None:
        installed = _install_folder() / "bin" / "pulumi"
        return str(installed) if installed.is_file() else None
    version = version_of(found)
    if version < MINIMUM:
        raise OpsError(
            f"the Pulumi CLI on PATH ({found}) is {version}; this project needs {MINIMUM} or newer, best"
            f" {sdk.version}, the version of its SDK: {HOW_TO_GET_IT}"
        )
    return found


def require_cli() -> str:
    """Return a Pulumi CLI, installing the SDK's own version after asking where there is none.

    Raises:
        OpsError: there is none and it cannot be installed, with how to get it.
    """
    found = find_cli()
    if found is not None:
        return found
    missing = f"this stack is deployed by the Pulumi CLI, which is not on PATH: {HOW_TO_GET_IT}"
    try:
        console.require_consent(
            f"The Pulumi CLI is not on PATH. Download version {sdk.version} into {_install_folder()}?",
            command="install it",
        )
    except OpsError as error:
        raise OpsError(missing) from error
    try:
        return PulumiCommand.install(root=str(_install_folder())).command
    except (OSError, subprocess.SubprocessError) as error:
        raise OpsError(f"the Pulumi CLI cannot be downloaded ({error}): {HOW_TO_GET_IT}") from error


def _install_folder() -> Path:
    return Path.home() / ".pulumi" / "versions" / str(sdk.version)


class PulumiStack:
    """A stack that the Pulumi CLI deploys, with the user's own backend, credentials and plugins.

    Args:
        settings: the validated settings of the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.stack
        self.settings = settings

    def preview(self, *, as_json: bool) -> None:
        """Show what `up` would change, unless servers could not get the model."""
        self._require_model()
        self._run("preview", *(["--json"] if as_json else []))

    def up(self, *, yes: bool, as_json: bool) -> None:
        """Run `pulumi up`, unless servers could not get the model."""
        self._change("up", yes=yes, as_json=as_json, first=self._require_model)

    def refresh(self, *, yes: bool, as_json: bool) -> None:
        """Run `pulumi refresh`."""
        self._change("refresh", yes=yes, as_json=as_json)

    def drift(self) -> list[Moved]:
        """Return what the preview of a refresh finds.

        Raises:
            OpsError: the CLI fails; what it said is in the message.
        """
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "events"
            done = subprocess.run(
                [*self._command("refresh"), "--preview-only", "--non-interactive", "--event-log", str(log)],
                cwd=PROJECT_FOLDER,
                # The log of events, which alone has old and new values, is an option for debugging.
                env={**self.environment(), "PULUMI_DEBUG_COMMANDS": "true"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != 0 or not log.exists():
                raise OpsError(f"pulumi refresh --preview-only failed:\n{done.stdout.strip()}")
            return _moved(log.read_text())

    def destroy(self, *, yes: bool, as_json: bool) -> None:
        """Run `pulumi destroy`, never with --remove: that deletes the stack file too."""
        self._change("destroy", yes=yes, as_json=as_json)

    def awake(self) -> bool:
        """Say that the clouds are always there."""
        return True

    def outputs(self, *, show_secrets: bool) -> dict[str, Any]:
        """Return what `pulumi stack output` says.

        Raises:
            OpsError: it fails, or writes something else.
        """
        options = ["--json", *(["--show-secrets"] if show_secrets else [])]
        answer = subprocess.run(
            [*self._command("stack", "output"), *options],
            cwd=PROJECT_FOLDER,
            env=self.environment(),
            stdout=subprocess.PIPE,
            check=False,
        )
        if answer.returncode != 0:
            raise SilentFailureError
        try:
            loaded: dict[str, Any] = json.loads(answer.stdout)
        except ValueError as error:
            raise OpsError("pulumi stack output --json wrote something else than JSON") from error
        return loaded

    def resources(self) -> dict[str, int]:
        """Return how many resources of each type `pulumi stack export` has.

        Raises:
            OpsError: there is no CLI, for which nobody is asked here, or it fails.
        """
        found = find_cli()
        if found is None:
            raise OpsError("the Pulumi CLI, which knows the state, is not on PATH")
        try:
            answer = subprocess.run(
                [found, "stack", "export", "--stack", self.name],
                cwd=PROJECT_FOLDER,
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_EXPORT_LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise OpsError(f"pulumi stack export has not ended in {_EXPORT_LIMIT_SECONDS} s") from error
        try:
            deployment = json.loads(answer.stdout)["deployment"]
        except (ValueError, KeyError) as error:
            raise OpsError(f"pulumi stack export failed:\n{answer.stderr.strip()}") from error
        # The key is left out where there is none.
        return dict(sorted(Counter(item["type"] for item in deployment.get("resources") or ()).items()))

    def environment(self) -> Mapping[str, str]:
        """Return the user's own environment with this project's Python first, for the language host."""
        bin_folder = PROJECT_FOLDER / ".venv" / "bin"
        return {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"}

    def runpod_api(self) -> str:
        """Return RunPod's public API, or the one that the environment names."""
        return os.environ.get(URL_VARIABLE) or RUNPOD_API

    def _require_model(self) -> None:
        from ops import models  # noqa: PLC0415  # an HTTP client takes a quarter of every command's start

        models.require(self.settings, token=self.hub_token, note=console.note)

    def hub_token(self) -> str | None:
        """Return the stack's secret hubToken; None if it has none."""
        command = self._command("config", "get", f"{PROJECT}:hubToken")
        answer = subprocess.run(
            command,
            cwd=PROJECT_FOLDER,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        return answer.stdout.strip() or None if answer.returncode == 0 else None

    def _change(
        self, verb: str, *, yes: bool, as_json: bool, first: Callable[[], None] = lambda: None
    ) -> None:
        if not yes:
            console.refuse_without_terminal(verb)
        first()
        self._run(verb, *(["--yes"] if yes else []), *(["--json"] if as_json else []))

    def _command(self, *words: str) -> list[str]:
        return [require_cli(), *words, "--stack", self.name]

    def _run(self, verb: str, *options: str) -> None:
        command: Sequence[str] = [*self._command(verb), *options]
        if run_in_foreground(command, folder=PROJECT_FOLDER, environment=self.environment()) != 0:
            raise SilentFailureError


def _moved(events: str) -> list[Moved]:
    """Return the resources that a log of the engine's events says to have changed."""
    found = []
    for line in events.splitlines():
        step = json.loads(line).get("resOutputsEvent", {}).get("metadata", {})
        if step.get("op") in ("update", "delete") and step.get("old"):
            after = step.get("new") if step["op"] == "update" else None
            found.append(Moved(step["urn"], step["type"], step["old"], after, tuple(step.get("diffs") or ())))
    return found
