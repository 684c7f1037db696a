"""Runs the Pulumi program of a project, and tells why it failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.engine import runner
from sandbox.engine.children import Child
from sandbox.engine.deployment import PARALLEL
from sandbox.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.engine.deployment import Deployment, Observer
    from sandbox.engine.project import Project

_KEPT_LINES = 20


class Program:
    """The program's process.

    Args:
        project: the project and stack.
        address: where the engine's services are.
        environment: the process's whole environment.
        observer: told what the program prints.
        deployment: what it works on.
    """

    def __init__(
        self,
        project: Project,
        address: str,
        environment: Mapping[str, str],
        observer: Observer,
        deployment: Deployment,
    ) -> None:
        self._deployment = deployment
        self._observer = observer
        self._tail: list[str] = []
        self.errors: list[str] = []
        settings = project.settings
        self._child = Child(
            [
                *[sys.executable, "-P", "-u", str(Path(runner.__file__))],
                *["--monitor", address, "--engine", address, "--root", str(project.root)],
                *["--project", project.name, "--stack", project.stack, "--parallel", str(PARALLEL)],
                *(["--preview"] if deployment.preview else []),
                str(project.main),
            ],
            cwd=project.main,
            environment={
                **environment,
                "PULUMI_CONFIG": json.dumps({key: setting.text for key, setting in settings.items()}),
                "PULUMI_CONFIG_SECRET_KEYS": json.dumps(
                    [key for key, setting in settings.items() if setting.secret]
                ),
            },
            say=self._printed,
        )
        self._child.read_output()

    def _printed(self, line: str) -> None:
        self._tail = [*self._tail[1 - _KEPT_LINES :], line]
        if not self._deployment.stopping:
            self._observer.message("info", line)

    def wait(self) -> None:
        """Wait for the program's end.

        Raises:
            EngineError: it failed, for a reason of its own.
        """
        status = self._child.wait()
        if status == 0 or self._deployment.stopping:
            return
        message = "\n".join(self.errors or self._tail) or f"the program ended with status {status}"
        raise EngineError(message)

    def kill(self) -> None:
        """End the program at once."""
        self._child.kill()
