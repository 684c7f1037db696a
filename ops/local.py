"""The stack `local`: makes this machine ready, then has the embedded engine run the program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ops import console
from ops.bootstrap import uv_settings
from ops.drift import Moved
from ops.errors import InterruptedCommandError, OpsError
from ops.progress import Progress
from ops.stacks import PROJECT_FOLDER
from sandbox import cache, clouds, vllm
from sandbox.engine import CancelledError, Engine, EngineError, make_display
from sandbox.kubernetes import binaries
from sandbox.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from infra.settings import Settings


class LocalStack:
    """The stack whose clouds run on this machine.

    Args:
        settings: the validated settings of the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.stack
        self.settings = settings
        if settings.sandbox is None:
            raise OpsError(f"{settings.file}: berth:sandbox is missing")
        self._block = settings.sandbox.loopback_block

    def preview(self, *, as_json: bool) -> None:
        """Show what `up` would change."""
        with _as_ops_errors():
            self._heal(as_json=as_json)
            result = self._engine(quiet=as_json).preview()
        if as_json:
            console.print_json(result.json())

    def up(self, *, yes: bool, as_json: bool) -> None:
        """Make the deployment what the stack file says; without `yes`, show the preview and ask."""
        if not yes:
            console.refuse_without_terminal("up")
        with _as_ops_errors():
            self._heal(as_json=as_json)
            if not yes:
                self._engine(quiet=as_json).preview()
                console.require_consent("Make these changes?", command="up")
            prepare(self.settings, targets=self.settings.targets, quiet=as_json)
            result = self._engine(quiet=as_json).up()
        if as_json:
            console.print_json({"changes": result.changes, "outputs": result.outputs})

    def refresh(self, *, yes: bool, as_json: bool) -> None:
        """Take over into the state what has changed outside; without `yes`, ask."""
        with _as_ops_errors():
            if not yes:
                console.require_consent("Read every resource and update the state?", command="refresh")
            self._heal(as_json=as_json)
            result = self._engine(quiet=as_json).refresh()
        if as_json:
            console.print_json({"changes": result.changes, "outputs": result.outputs})

    def drift(self) -> list[Moved]:
        """Return the resources that are not any more as the state has them.

        Raises:
            OpsError: nothing is deployed, or a cloud does not answer.
        """
        with _as_ops_errors():
            self._engine(quiet=True).outputs()
            self._heal(as_json=True)
            result = self._engine(quiet=True).drift()
        steps = [step.json() for step in result.steps if step.op in ("update", "delete")]
        return [
            Moved(
                step["urn"],
                step["oldState"]["type"],
                step["oldState"],
                step.get("newState"),
                tuple(step.get("diffReasons", ())),
            )
            for step in steps
        ]

    def destroy(self, *, yes: bool, as_json: bool) -> None:
        """Delete everything of the deployment, the clouds of the sandbox last; without `yes`, ask."""
        with _as_ops_errors():
            if not yes:
                console.require_consent(f"Delete everything of the stack {self.name}?", command="destroy")
            self._heal(as_json=as_json)
            result = self._engine(quiet=as_json).destroy()
            # A cloud whose start was cut off before it was recorded as a resource is none that is deleted.
            clouds.stop(PROJECT_FOLDER)
        if as_json:
            console.print_json({"changes": result.changes})

    def awake(self) -> bool:
        """Say whether the sandbox's clouds run, once those that died are started again."""
        with _as_ops_errors():
            self._heal(as_json=True)
            return bool(clouds.running(PROJECT_FOLDER))

    def outputs(self, *, show_secrets: bool) -> dict[str, Any]:
        """Return the outputs of the last `up`."""
        with _as_ops_errors():
            return self._engine(quiet=True).outputs(show_secrets=show_secrets)

    def resources(self) -> dict[str, int]:
        """Return how many resources of each type the state has; none before the first `up`."""
        with _as_ops_errors():
            return dict(sorted(Counter(self._engine(quiet=True).resource_types()).items()))

    def environment(self) -> Mapping[str, str]:
        """Return the variables under which tools work on the sandbox."""
        return clouds.environment(PROJECT_FOLDER, self._block)

    def runpod_api(self) -> str:
        """Return the sandbox's RunPod API."""
        return clouds.Endpoints.of(self._block).runpod

    def _heal(self, *, as_json: bool) -> None:
        for name in clouds.ensure_running(PROJECT_FOLDER):
            if not as_json:
                console.say(f"The sandbox's {name} cloud had died and is restarted, with all that it held.")

    def _engine(self, *, quiet: bool) -> Engine:
        return Engine(
            PROJECT_FOLDER,
            self.name,
            backend=clouds.folder(PROJECT_FOLDER) / "state",
            passphrase=clouds.PASSPHRASE,
            environment=self.environment(),
            display=make_display(quiet=quiet),
        )


def prepare(settings: Settings, *, targets: Iterable[str], quiet: bool = False) -> None:
    """Make ready what the sandbox runs: vLLM and the model, for EKS also the control plane; side by side.

    Args:
        settings: the stack's settings, for its model.
        targets: the platforms.
        quiet: write nothing where there is no terminal.

    Raises:
        OpsError: a part cannot be made ready.
    """
    missing = _missing(targets)
    if missing and not quiet:
        cache.directory().mkdir(parents=True, exist_ok=True)
        free_gib = shutil.disk_usage(cache.directory()).free / 2**30
        console.say(
            f"First use on this machine: making ready {' and '.join(missing)} in {cache.directory()}, once."
            f" It takes up to {clouds.needed_gib(targets):.1f} GiB of disk while it is made, of which"
            f" {free_gib:.0f} GiB are free."
        )
    if missing:
        pass_pip_settings_on_to_uv()
    model = settings.model
    wanted = Model(
        model.name,
        "" if settings.server is not None else model.revision,
        model.task,
        {adapter.name: adapter.revision for adapter in model.adapters.values()},
    )
    with _as_ops_errors(), Progress(console.err if quiet else console.out, quiet=quiet) as progress:
        clouds.prepare(targets, wanted, progress.report)


def _missing(targets: Iterable[str]) -> list[str]:
    """Name what is not in the cache yet, with its size on disk."""
    missing = []
    if not vllm.directory().exists():
        missing.append(f"vLLM {vllm.version()} ({vllm.SIZE_GIB} GiB)")
    if "eks" in targets and not binaries.directory().exists():
        missing.append(f"Kubernetes {binaries.version()} (downloaded, or built from source in some minutes)")
    return missing


def pass_pip_settings_on_to_uv() -> None:
    """Have the installation of vLLM ask the same index as the launcher's own, where only pip knows it."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    os.environ.update(uv_settings(answer.stdout, dict(os.environ)))


@contextmanager
def _as_ops_errors() -> Iterator[None]:
    try:
        yield
    except CancelledError as error:
        raise InterruptedCommandError(str(error)) from error
    except (EngineError, clouds.CloudError) as error:
        raise OpsError(str(error)) from error
