"""The engine: preview, up, refresh, destroy and outputs of the stack `local`, without the Pulumi CLI."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sandbox.engine import project as projects
from sandbox.engine import values
from sandbox.engine.backend import Backend
from sandbox.engine.deployment import Deployment
from sandbox.engine.errors import CancelledError, EngineError
from sandbox.engine.journal import Journal
from sandbox.engine.monitor import Monitor, Server
from sandbox.engine.plugins import Provider
from sandbox.engine.program import Program
from sandbox.engine.registry import Registry
from sandbox.engine.result import Result
from sandbox.engine.state import STACK_TYPE, Codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sandbox.engine.display import Display

SUPPORTED_STACK = "local"
_GRACE_SECONDS = 5.0


class Engine:
    """Pulumi for one stack of one project, the one that needs no cloud.

    Args:
        project: the folder of `Pulumi.yaml`.
        stack: the stack's name: `local`.
        backend: the folder that holds `.pulumi`, as in the CLI's `file://` URLs.
        passphrase: what the stack's secrets are encrypted with.
        environment: variables for the program and the plugins, over those of this process.
        display: shows what happens.

    Raises:
        EngineError: the stack is another one, or its files are missing or malformed.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        *,
        backend: Path,
        passphrase: str,
        environment: Mapping[str, str],
        display: Display,
    ) -> None:
        if stack != SUPPORTED_STACK:
            raise EngineError(
                f"the embedded engine serves the stack {SUPPORTED_STACK} only: {stack} needs the Pulumi CLI"
            )
        self._project = projects.load(project.resolve(), stack, passphrase)
        self._backend = Backend(backend, self._project.name, stack, Codec(self._project.crypter))
        self._display = display
        self._environment = {
            **os.environ,
            **environment,
            "PULUMI_PROJECT": self._project.name,
            "PULUMI_STACK": stack,
            "PULUMI_ORGANIZATION": "organization",
            # Plugins start in the program's folder, whose modules must not shadow packages of the same name.
            "PYTHONSAFEPATH": "1",
        }

    def preview(self) -> Result:
        """Find out what `up` would do; nothing is changed.

        Raises:
            EngineError: the program or a provider failed.
        """
        with self._operation("preview") as operation:
            for item in operation.journal.interrupted:
                text = f"{item.kind} it was interrupted; the next `up` finishes that"
                self._display.message("warning", text, item.resource.urn)
            operation.run_program()
            operation.deployment.delete_left()
        return operation.result

    def up(self) -> Result:
        """Bring the stack to what the program wants.

        Raises:
            LockedError: another process works on the stack.
            EngineError: the program or a provider failed; what was done is recorded, and can be gone on with.
        """
        with self._operation("update") as operation:
            operation.deployment.recover()
            operation.run_program()
            operation.deployment.delete_left()
        return operation.result

    def refresh(self) -> Result:
        """Bring the state to what the clouds say.

        Raises:
            LockedError: another process works on the stack.
            EngineError: a provider failed.
        """
        with self._operation("refresh") as operation:
            operation.deployment.recover()
            operation.deployment.refresh()
        return operation.result

    def drift(self) -> Result:
        """Find out what `refresh` would change; nothing is changed.

        Raises:
            EngineError: a provider failed, or an interrupted creation leaves open what there is.
        """
        with self._operation("preview") as operation:
            if operation.journal.interrupted:
                raise EngineError("the last operation was interrupted: `up` or `refresh` finish it")
            operation.deployment.refresh()
        return operation.result

    def destroy(self) -> Result:
        """Delete everything, from the state alone: the program is not run.

        Raises:
            LockedError: another process works on the stack.
            EngineError: something is protected, or a provider failed.
        """
        with self._operation("destroy") as operation:
            operation.deployment.recover()
            operation.deployment.delete_left()
            if operation.journal.interrupted:
                names = ", ".join(item.resource.urn for item in operation.journal.interrupted)
                raise EngineError(
                    f"interrupted creations could not be finished, so something of them may be left: {names}"
                )
        return operation.result

    def outputs(self, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return the stack's outputs as recorded; secrets as `[secret]` unless asked for.

        Raises:
            EngineError: there are none, for nothing has been deployed.
        """
        for resource in self._backend.load().live():
            if resource.type == STACK_TYPE:
                shown: dict[str, Any] = (values.reveal if show_secrets else values.redact)(resource.outputs)
                return shown
        raise EngineError(f"the stack {self._project.stack} has no outputs: nothing is deployed")

    def resource_types(self) -> list[str]:
        """Return the type of every resource in the state; none where nothing has been deployed."""
        return [resource.type for resource in self._backend.load().live()]

    @contextmanager
    def _operation(self, kind: str) -> Iterator[_Operation]:
        started, clock = time.time(), time.monotonic()
        with ExitStack() as stack:
            if kind != "preview":
                stack.enter_context(self._backend.lock(lambda text: self._display.message("warning", text)))
            journal = Journal(self._backend.load(), None if kind == "preview" else self._backend.save)
            operation = _Operation(kind, self._project, journal, self._environment, self._display)
            stack.callback(operation.close)
            self._display.begin(kind, self._project.stack)
            stack.callback(self._display.end)
            stack.enter_context(_interruptible(operation, self._display))
            error: EngineError | None = None
            providers = [resource.type for resource in journal.base.live() if resource.is_provider]
            operation.registry.prestart(providers)
            try:
                yield operation
                if kind != "preview":
                    journal.write()
            except EngineError as raised:
                error = raised
            operation.deployment.wait_idle()
            # What failed first is the reason for what the program then says.
            error = _combine(operation.deployment.errors) or error
            operation.finish(time.monotonic() - clock)
            if kind != "preview":
                self._record(operation.result, started, failed=error is not None)
            self._display.result(operation.result, str(error) if error else None)
            if error is not None:
                raise error

    def _record(self, result: Result, started: float, *, failed: bool) -> None:
        try:
            self._backend.record_history(
                {
                    "kind": result.kind,
                    "startTime": int(started),
                    "message": "",
                    "environment": {"exec.kind": "embedded"},
                    "config": {key: setting.stored for key, setting in self._project.settings.items()},
                    "version": 0,
                    "result": "failed" if failed else "succeeded",
                    "endTime": int(time.time()),
                    "resourceChanges": result.changes,
                }
            )
        except OSError as error:
            self._display.message("warning", f"the history of the stack cannot be written: {error.strerror}")


def _combine(errors: list[EngineError]) -> EngineError | None:
    """Return all failures as one; an interruption stands for what it made fail."""
    for error in errors:
        if isinstance(error, CancelledError):
            return error
    texts = list(dict.fromkeys(map(str, errors)))
    return errors[0] if len(texts) == 1 else EngineError("\n".join(texts)) if texts else None


class _Operation:
    """What one operation works with, from its start to its end."""

    def __init__(
        self,
        kind: str,
        project: projects.Project,
        journal: Journal,
        environment: Mapping[str, str],
        display: Display,
    ) -> None:
        self.journal = journal
        self._project, self._environment, self._display = project, environment, display
        self._server = Server(self)
        self.registry = Registry(self._start_provider)
        self.deployment = Deployment(project, journal, self.registry, self, preview=kind == "preview")
        self._server.start(Monitor(project, self.deployment, self.registry))
        self._program: Program | None = None
        self.result = Result(kind, settings={key: repr(setting) for key, setting in project.settings.items()})
        self.step_started, self.step_ended = display.step_started, display.step_ended

    def message(self, severity: str, text: str, urn: str = "", *, ephemeral: bool = False) -> None:
        """Pass on what program and providers say; errors of the program are kept for its end."""
        if severity == "error" and self._program is not None:
            self._program.errors.append(text)
        elif severity != "debug":
            self._display.message(severity, text, urn, ephemeral=ephemeral)

    def _start_provider(self, package: str) -> Provider:
        def say(line: str, busy: list[str]) -> None:
            # A plugin prints without saying about what; with one call under way there is no doubt.
            self._display.message("info", line, busy[0] if len(busy) == 1 else "", ephemeral=len(busy) == 1)

        return Provider(
            package,
            cwd=self._project.main,
            environment=self._environment,
            engine_address=self._server.address,
            say=say,
        )

    def run_program(self) -> None:
        """Run the program to its end.

        Raises:
            EngineError: it failed, or a resource that it registered did.
        """
        self._program = Program(
            self._project, self._server.address, self._environment, self._display, self.deployment
        )
        self._program.wait()
        self.deployment.wait_idle()
        if self.deployment.errors:
            raise self.deployment.errors[0]

    def finish(self, seconds: float) -> None:
        """Put the result together."""
        self.result.steps = list(self.deployment.steps)
        self.result.duration_seconds = seconds
        if self.deployment.stack is not None and self.result.kind != "destroy":
            self.result.raw_outputs = self.deployment.stack.outputs

    def interrupt(self) -> None:
        """Begin nothing more; once what runs has ended, end the program too."""
        self.deployment.fail(CancelledError("interrupted: what was running has ended and is recorded"))

        def end_program() -> None:
            self.deployment.wait_idle()
            time.sleep(_GRACE_SECONDS)
            if self._program is not None:
                self._program.kill()

        threading.Thread(target=end_program, daemon=True).start()

    def abort(self) -> None:
        """Give up what runs."""
        self.registry.cancel()
        self.registry.close()
        if self._program is not None:
            self._program.kill()

    def close(self) -> None:
        """End program, plugins and services."""
        if self._program is not None:
            self._program.kill()
        self.registry.close()
        self._server.close()


@contextmanager
def _interruptible(operation: _Operation, display: Display) -> Iterator[None]:
    """Handle Ctrl-C: the first lets running steps end, the second does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def interrupted(*_: object) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            text = "interrupted: waiting for what is running; press Ctrl-C again to give it up"
            # Not from the handler itself: the display's lock may be held by the code that it interrupts.
            threading.Thread(target=display.message, args=("warning", text), daemon=True).start()
            operation.interrupt()
        else:
            threading.Thread(target=operation.abort, daemon=True).start()

    previous = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
