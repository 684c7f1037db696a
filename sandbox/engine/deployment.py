"""Carries out an operation on a stack: what the program registers, what it no longer registers, refresh."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from sandbox.engine import schedule, values
from sandbox.engine.errors import CancelledError, EngineError
from sandbox.engine.goal import Goal
from sandbox.engine.planner import Planner, describe
from sandbox.engine.plugins import Diff, InitializationError
from sandbox.engine.state import PROVIDER_PREFIX, STACK_TYPE, Resource, now
from sandbox.engine.steps import Step
from sandbox.engine.values import Properties, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.engine.journal import Journal
    from sandbox.engine.project import Project
    from sandbox.engine.registry import Registry

PARALLEL = 16


class Observer(Protocol):
    """Is told what happens; see `sandbox.engine.display`."""

    def step_started(self, step: Step) -> None:
        """A step begins."""

    def step_ended(self, step: Step, error: str | None) -> None:
        """A step has ended, with an error or without."""

    def message(self, severity: str, text: str, urn: str = "", *, ephemeral: bool = False) -> None:
        """The program, a provider or the engine says something, perhaps about a resource."""


class Deployment:
    """One operation on one stack.

    Args:
        project: the project and stack.
        journal: the state.
        registry: the providers.
        observer: told what happens.
        preview: find out what would be done, do nothing.
    """

    def __init__(
        self, project: Project, journal: Journal, registry: Registry, observer: Observer, *, preview: bool
    ) -> None:
        self._project, self._journal, self._registry = project, journal, registry
        self._observer, self.preview = observer, preview
        self._planner = Planner(
            project.stack,
            project.name,
            journal,
            registry,
            preview=preview,
            warn=lambda urn, text: observer.message("warning", text, urn),
        )
        self._planning = threading.RLock()
        self._slots = threading.Semaphore(PARALLEL)
        self._goals: dict[str, Goal] = {}
        self._defaults: dict[tuple[str, str], str] = {}
        self._idle = threading.Condition()
        self._running = 0
        self.steps: list[Step] = []
        self.errors: list[EngineError] = []
        self.stack: Resource | None = next(
            (item for item in journal.base.live() if item.type == STACK_TYPE), None
        )

    # -- stopping ---------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether no new step may begin."""
        return bool(self.errors)

    def fail(self, error: EngineError) -> None:
        """Begin no further step; what runs may end."""
        self.errors.append(error)

    def wait_idle(self) -> None:
        """Wait until no step runs."""
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0)

    def _go_on(self) -> None:
        if self.stopping:
            raise CancelledError("the operation has been stopped")

    # -- what the program registers ---------------------------------------------------------------------

    def register(self, goal: Goal) -> Resource:
        """Bring a resource to what the program wants; return it as it then is.

        Raises:
            EngineError: that failed; the operation stops.
        """
        with self._planning:
            self._go_on()
            try:
                if goal.parent in self._goals:
                    goal.inherit(self._goals[goal.parent])
                if goal.custom and not goal.is_provider and not goal.provider:
                    goal.provider = self.default_provider(goal.package, goal.version, goal.type)
                plan = self._planner.plan(goal)
            except EngineError as error:
                failure = EngineError(f"{goal.type} {goal.name}: {error}")
                self.fail(failure)
                raise failure from error
            self._goals[plan.step.urn] = goal
        for deletion in plan.deletions:
            self._run(deletion)
        self._run(plan.step)
        new = plan.step.new
        assert new is not None  # noqa: S101  # a registration has a wanted state
        if new.type == STACK_TYPE:
            self.stack = new
        return new

    def default_provider(self, package: str, version: str, wanted_by: str) -> str:
        """Return the reference of a package's default provider, made on first use.

        Raises:
            EngineError: the stack's settings forbid default providers of this package.
        """
        denied = self._project.denied_default_providers
        if package in denied or "*" in denied:
            raise EngineError(
                f"default provider for {package!r} is disabled by pulumi:disable-default-providers: "
                f"{wanted_by} must be given an explicit provider"
            )
        with self._planning:
            key = (package, version)
            if key not in self._defaults:
                self._defaults[key] = self._make_default_provider(package, version).reference
            return self._defaults[key]

    def _make_default_provider(self, package: str, version: str) -> Resource:
        # Dynamic providers are configured with all settings, others with those of their own namespace.
        dynamic = package == "pulumi-python"
        inputs: Properties = {}
        for key, setting in self._project.settings.items():
            namespace, name = key.split(":", 1)
            if dynamic or namespace == package:
                inputs[key if dynamic else name] = Secret(setting.text) if setting.secret else setting.text
        if version:
            inputs["version"] = version
        suffix = "".join(char if char.isalnum() else "_" for char in f"_{version}") if version else ""
        goal = Goal(f"{PROVIDER_PREFIX}{package}", f"default{suffix}", custom=True, inputs=inputs)
        return self.register(goal)

    def set_outputs(self, urn: str, outputs: Properties) -> None:
        """Record the outputs of a component."""
        resource = self._planner.registered.get(urn)
        if resource is None:
            raise EngineError(f"outputs were given for {urn}, which was not registered")
        changed = not values.equal(resource.outputs, outputs)
        resource.outputs = outputs
        if changed:
            self._write()

    def resource(self, urn: str) -> Resource | None:
        """Return a resource that this run has registered."""
        return self._planner.registered.get(urn)

    def _write(self) -> None:
        try:
            self._journal.write()
        except EngineError as error:
            self.fail(error)
            raise

    # -- single steps -----------------------------------------------------------------------------------

    def _run(self, step: Step) -> None:
        with self._slots:
            self._go_on()
            with self._idle:
                self._running += 1
            self._observer.step_started(step)
            error: EngineError | None = None
            try:
                self._apply(step)
            except EngineError as raised:
                error = EngineError(f"{describe(step.urn)}: {raised}")
                self.fail(error)
                raise error from raised
            finally:
                if error is None:
                    self.steps.append(step)
                self._observer.step_ended(step, str(error) if error else None)
                with self._idle:
                    self._running -= 1
                    self._idle.notify_all()

    def _apply(self, step: Step) -> None:
        old, new = step.old, step.new
        if step.op in ("create", "create-replacement") and new is not None:
            self._create(new, old)
        elif step.op == "update" and old is not None and new is not None:
            self._update(old, new)
        elif step.op == "same" and old is not None and new is not None:
            self._same(old, new)
        elif old is not None:
            self._delete(step, old)

    def _create(self, new: Resource, replaced: Resource | None) -> None:
        failure: InitializationError | None = None
        operation = self._journal.begin("creating", new)
        try:
            if new.is_provider:
                self._registry.apply(new, preview=self.preview)
            elif new.custom:
                provider = self._registry.get(new.provider)
                new.id, new.outputs = provider.create(new, preview=self.preview)
        except InitializationError as error:
            new.id, new.outputs, new.init_errors, failure = error.id, error.outputs, error.reasons, error
        except EngineError:
            self._journal.end(operation)
            raise
        _mark_secrets(new)
        new.created = new.modified = now()
        if replaced is not None and not replaced.pending_replacement:
            replaced.delete = True
        gone = replaced if replaced is not None and replaced.pending_replacement else None
        self._journal.end(operation, gone=gone, new=new)
        if failure is not None:
            raise failure

    def _update(self, old: Resource, new: Resource) -> None:
        new.id, new.created, new.modified = old.id, old.created, now()
        failure: InitializationError | None = None
        operation = self._journal.begin("updating", old)
        try:
            if new.is_provider:
                self._registry.apply(new, preview=self.preview)
            elif new.custom:
                new.outputs = self._registry.get(new.provider).update(old, new, preview=self.preview)
            else:
                new.outputs = old.outputs
        except InitializationError as error:
            new.outputs, new.init_errors, failure = error.outputs, error.reasons, error
        except EngineError:
            self._journal.end(operation)
            raise
        _mark_secrets(new)
        self._journal.end(operation, gone=old, new=new)
        if failure is not None:
            raise failure

    def _same(self, old: Resource, new: Resource) -> None:
        new.id, new.outputs = old.id, old.outputs
        new.created, new.modified = old.created, old.modified
        if new.is_provider:
            # A provider that calls a changed setting no change is configured as it was.
            self._registry.same(replace(new, inputs=old.inputs))
        _mark_secrets(new)
        self._journal.end(gone=old, new=new, write=_differs(old, new))

    def _delete(self, step: Step, old: Resource) -> None:
        spared = old.retain_on_delete or old.deleted_with in self._planner.deleted
        before_replacement = step.op == "delete-replaced" and not old.delete
        operation = self._journal.begin("deleting", old)
        try:
            if not self.preview and not spared and old.custom and not old.is_provider:
                self._registry.get(old.provider).delete(old)
        except EngineError:
            self._journal.end(operation)
            raise
        if before_replacement:
            # It stays in state until its successor is made, so that a run in between knows what to do.
            old.pending_replacement = True
            self._journal.end(operation)
        else:
            self._journal.end(operation, gone=old)

    # -- what the program does not register any more ----------------------------------------------------

    def delete_left(self) -> None:
        """Delete what the last run left and this one has not dealt with, dependents first.

        Raises:
            EngineError: something to be deleted is protected, or a deletion failed.
        """
        left = self._journal.left()
        for resource in left:
            if resource.pending_replacement:
                self._journal.end(gone=resource)
        doomed = [resource for resource in left if not resource.pending_replacement]
        protected = [
            describe(resource.urn) for resource in doomed if resource.protect and not resource.delete
        ]
        if protected:
            error = EngineError(
                f"protected, so not deleted: {', '.join(protected)}; take `protect` off first"
            )
            self.fail(error)
            raise error
        self._planner.deleted.update(resource.urn for resource in doomed)
        for resource in doomed:
            if resource.custom and not resource.is_provider:
                self._planner.ensure_provider(resource)
        after: dict[int, set[int]] = {}
        for index, resource in enumerate(doomed):
            for earlier in range(index):
                if doomed[earlier].urn in resource.needs():
                    after.setdefault(earlier, set()).add(index)
        schedule.run(doomed, after, self._delete_one, parallel=PARALLEL)
        if self.errors:
            raise self.errors[0]

    def _delete_one(self, resource: Resource) -> bool:
        try:
            self._run(Step("delete-replaced" if resource.delete else "delete", resource.urn, resource))
        except EngineError:
            return False  # it is among the errors; what it needs must stay
        return True

    # -- what an interrupted run left -------------------------------------------------------------------

    def recover(self) -> None:
        """Finish the creations that were interrupted, so that nothing made is forgotten.

        `Create` is called again with the inputs that were recorded; providers adopt what the interrupted call
        left. What exists but does not become ready is recorded as such, like by any other creation. Where the
        call fails altogether it is said, and tried again by the next run.
        """
        for operation in list(self._journal.interrupted):
            resource = operation.resource
            if operation.kind != "creating":
                continue
            if not resource.custom or resource.is_provider:
                self._journal.forget_interrupted(resource.urn, "creating")
                continue
            self._observer.message("info", "finishing its creation, which was interrupted", resource.urn)
            try:
                self._planner.ensure_provider(resource)
                created = self._registry.get(resource.provider).create(resource, preview=False)
            except InitializationError as error:
                created, resource.init_errors = (error.id, error.outputs), error.reasons
                self._observer.message("warning", str(error), resource.urn)
            except EngineError as error:
                text = f"its creation was interrupted and cannot be finished: {error}"
                self._observer.message("warning", text, resource.urn)
                continue
            resource.id, resource.outputs = created
            resource.created = resource.modified = now()
            _mark_secrets(resource)
            self._planner.adopt(resource)

    # -- refresh ----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the providers how everything is now, and record that.

        Raises:
            EngineError: a provider could not tell.
        """
        resources = self._journal.base.resources
        for resource in resources:
            self._planner.ensure_provider(resource)
        schedule.run(resources, {}, self._refresh_one, parallel=PARALLEL)
        self._write()
        if self.errors:
            raise self.errors[0]

    def _refresh_one(self, resource: Resource) -> bool:
        if not resource.custom or resource.is_provider:
            return True
        step = Step("refresh", resource.urn, replace(resource), resource)
        self._observer.step_started(step)
        error: EngineError | None = None
        try:
            self._go_on()
            self._read(step, resource)
        except EngineError as raised:
            error = EngineError(f"{describe(resource.urn)}: {raised}")
            self.fail(error)
        if error is None:
            self.steps.append(step)
        self._observer.step_ended(step, str(error) if error else None)
        return error is None

    def _read(self, step: Step, resource: Resource) -> None:
        resource.init_errors = []
        try:
            found = self._registry.get(resource.provider).read(resource)
        except InitializationError as failure:
            found = failure.id or resource.id, failure.inputs, failure.outputs
            resource.init_errors = failure.reasons
            self._observer.message("warning", str(failure), resource.urn)
        if found is None:
            step.op, step.new = "delete", None
            self._journal.drop(resource)
            return
        id_, inputs, outputs = found
        before = replace(resource)
        resource.id, resource.outputs = id_, outputs
        resource.inputs = resource.inputs if inputs is None else inputs
        _mark_secrets(resource)
        changed = _changed_keys(before, resource)
        step.op, step.diff = "update" if changed else "same", Diff(changes=bool(changed), changed=changed)
        if changed:
            resource.modified = now()


def _mark_secrets(resource: Resource) -> None:
    for key in resource.additional_secret_outputs:
        if key in resource.outputs and not isinstance(resource.outputs[key], Secret):
            resource.outputs = {**resource.outputs, key: Secret(resource.outputs[key])}


def _changed_keys(old: Resource, new: Resource) -> list[str]:
    keys: Iterable[str] = {*old.inputs, *new.inputs, *old.outputs, *new.outputs}
    return [
        key
        for key in sorted(keys)
        if not values.equal(old.inputs.get(key), new.inputs.get(key))
        or not values.equal(old.outputs.get(key), new.outputs.get(key))
    ]


def _differs(old: Resource, new: Resource) -> bool:
    """Say whether an unchanged resource's entry in state has to be written anew."""
    plain = {name: value for name, value in vars(old).items() if name not in ("inputs", "outputs")}
    return any(getattr(new, name) != value for name, value in plain.items()) or not values.equal(
        [old.inputs, old.outputs], [new.inputs, new.outputs]
    )
