"""Decides what has to be done to one resource: nothing, create, update or replace, and what must go for that.

The rules are those of Pulumi's `pkg/resource/deploy/step_generator.go`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.engine import paths, values
from sandbox.engine.errors import EngineError
from sandbox.engine.plugins import CheckResult, Diff, Provider
from sandbox.engine.state import Resource, make_urn, name_of, type_of
from sandbox.engine.steps import Step
from sandbox.engine.values import UNKNOWN, Properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.engine.goal import Goal
    from sandbox.engine.journal import Journal
    from sandbox.engine.registry import Registry

_UNAVAILABLE = (
    "the provider of this resource has settings that are only known during the operation itself: this "
    "preview may not show all of its changes"
)


@dataclass
class Plan:
    """What to do for one registration.

    Args:
        step: what is done to the resource itself.
        deletions: what has to go before that, in this order.
    """

    step: Step
    deletions: list[Step] = field(default_factory=list)


class Planner:
    """Plans registrations one after another.

    Args:
        stack: the stack's name.
        project: the project's name.
        journal: the state.
        registry: the providers.
        preview: whether unknown values are allowed.
        warn: told what the user should know about a resource (URN and message).
    """

    def __init__(
        self,
        stack: str,
        project: str,
        journal: Journal,
        registry: Registry,
        *,
        preview: bool,
        warn: Callable[[str, str], None],
    ) -> None:
        self._stack, self._project = stack, project
        self._journal, self._registry = journal, registry
        self._preview, self._warn = preview, warn
        self._olds = {resource.urn: resource for resource in journal.base.live()}
        self.registered: dict[str, Resource] = {}
        self.deleted: set[str] = set()
        self._aliased: dict[str, str] = {}
        self._replaced: set[str] = set()
        self._interrupted = {(operation.kind, operation.resource.urn) for operation in journal.interrupted}

    def plan(self, goal: Goal) -> Plan:
        """Decide what has to be done for a registration.

        Raises:
            EngineError: it is invalid, or needs the deletion of something protected.
        """
        urn = make_urn(self._stack, self._project, goal.parent, goal.type, goal.name)
        if urn in self.registered or urn in self._aliased:
            raise EngineError(f"two resources of type {goal.type} are named {goal.name}: names must differ")
        old = self._find(urn, goal.aliases)
        new = Resource(
            urn=urn,
            type=goal.type,
            custom=goal.custom,
            inputs=goal.inputs,
            parent=goal.parent,
            provider=goal.provider,
            dependencies=goal.dependencies,
            property_dependencies=goal.property_dependencies,
            protect=bool(goal.protect),
            retain_on_delete=bool(goal.retain_on_delete),
            deleted_with=goal.deleted_with,
            additional_secret_outputs=goal.additional_secret_outputs,
            custom_timeouts=goal.custom_timeouts,
            ignore_changes=goal.ignore_changes,
            replace_on_changes=goal.replace_on_changes,
        )
        self.registered[urn] = new
        if old is not None and self._vanished(old):
            self._journal.end(gone=old)
            old = None
        recreating = urn in self.deleted
        if old is None or recreating:
            self._check(new, {}, goal.inputs)
        else:
            self._check(new, old.inputs, ignore(goal.ignore_changes, old.inputs, goal.inputs))
        if old is None:
            return Plan(Step("create", urn, None, new))
        if recreating:
            # It was deleted because something that it depends on had to be.
            self.deleted.discard(urn)
            self._replaced.add(urn)
            return Plan(Step("create-replacement", urn, old, new))
        diff = self._diff(old, new)
        if diff.unavailable:
            self._warn(urn, _UNAVAILABLE)
        _replace_on_changes(diff, goal.replace_on_changes)
        if diff.replace or old.pending_replacement:
            return self._replacement(goal, old, new, diff)
        if diff.changes or old.init_errors or ("updating", old.urn) in self._interrupted:
            return Plan(Step("update", urn, old, new, diff))
        return Plan(Step("same", urn, old, new, diff))

    def _find(self, urn: str, aliases: list[str]) -> Resource | None:
        for candidate in [urn, *aliases]:
            if candidate not in self._olds or (candidate != urn and candidate in self.registered):
                continue
            old = self._olds[candidate]
            if candidate != urn:
                if candidate in self._aliased:
                    raise EngineError(f"{urn} and {self._aliased[candidate]} both claim to be {candidate}")
                self._aliased[candidate] = urn
                for resource in self._journal.left():
                    resource.rename({candidate: urn})
            return old
        return None

    def _vanished(self, old: Resource) -> bool:
        """Say whether an interrupted deletion of this resource got through."""
        if ("deleting", old.urn) not in self._interrupted or not old.custom or old.is_provider:
            return False
        self.ensure_provider(old)
        return self._registry.get(old.provider).read(old) is None

    def adopt(self, resource: Resource) -> None:
        """Take in a resource that an interrupted run made but did not record."""
        predecessor = self._olds.get(resource.urn)
        if predecessor is not None and predecessor.pending_replacement:
            self._journal.end(gone=predecessor, write=False)
        elif predecessor is not None:
            predecessor.delete = True
        self._olds[resource.urn] = resource
        self._journal.adopt(resource)

    def ensure_provider(self, resource: Resource) -> None:
        """Configure the provider of a resource of the last run, as it was then."""
        if resource.provider and not self._registry.has(resource.provider):
            for candidate in self._journal.base.resources:
                if candidate.is_provider and candidate.reference == resource.provider:
                    self._registry.ensure(candidate)
                    return
            raise EngineError(f"the provider of {resource.urn} is missing from the state")

    def _provider(self, resource: Resource) -> Provider | None:
        if not resource.custom or resource.is_provider:
            return None
        return self._registry.get(resource.provider)

    def _check(self, new: Resource, olds: Properties, news: Properties) -> None:
        if new.is_provider:
            new.inputs = news
            result = self._registry.check(new, olds)
        elif (provider := self._provider(new)) is not None:
            result = provider.check(new.urn, olds, news, preview=self._preview, seed=secrets.token_bytes(32))
        else:
            result = CheckResult(news, [])
        if result.failures:
            raise EngineError(
                "; ".join(
                    f"{reason} (property {property_})" if property_ else reason
                    for property_, reason in result.failures
                )
            )
        new.inputs = result.inputs

    def _diff(self, old: Resource, new: Resource) -> Diff:
        if new.deleted_with in self._replaced:
            return Diff(changes=True, replaces=["deletedWith"])
        if old.provider != new.provider and self._provider_replaced(old, new):
            return Diff(changes=True, replaces=["provider"])
        if new.is_provider:
            return self._registry.diff(old, new.inputs)
        provider = self._provider(new)
        if provider is None:
            return _compare(old.inputs, new.inputs)
        return _ask(provider, old, new.inputs, new.ignore_changes, preview=self._preview)

    def _provider_replaced(self, old: Resource, new: Resource) -> bool:
        """Say whether another provider manages the resource, and not just the same one with a new id."""
        if not old.provider or not new.provider:
            return True
        before = self._recorded(old.provider)
        after = self.registered.get(new.provider_urn)
        if before is None or after is None:
            return True
        provider = self._registry.get(new.provider)
        return provider.diff_config(after.urn, before.inputs, before.outputs, after.inputs).replace

    def _recorded(self, reference: str) -> Resource | None:
        return next(
            (
                item
                for item in self._journal.base.resources
                if item.is_provider and item.reference == reference
            ),
            None,
        )

    def _replacement(self, goal: Goal, old: Resource, new: Resource, diff: Diff) -> Plan:
        if old.protect and new.protect:
            raise EngineError(
                f"{old.urn} would be replaced ({', '.join(diff.replaces)}) but is protected: take `protect` "
                "from it first"
            )
        self._replaced.add(new.urn)
        # What the provider filled in for the old object does not hold for a new one.
        self._check(new, {}, goal.inputs)
        step = Step("create-replacement", new.urn, old, new, diff)
        eager = (
            diff.delete_before_replace if goal.delete_before_replace is None else goal.delete_before_replace
        )
        if not eager:
            return Plan(step)
        deletions = []
        for dependent in reversed(self._dependents(old)):
            if dependent.urn in self.deleted:
                continue
            if dependent.protect:
                raise EngineError(
                    f"{dependent.urn} would be replaced together with {old.urn} but is protected: take "
                    "`protect` from it first"
                )
            self.deleted.add(dependent.urn)
            if not dependent.pending_replacement:
                deletions.append(Step("delete-replaced", dependent.urn, dependent))
        if not old.pending_replacement:
            self.ensure_provider(old)
            self.deleted.add(old.urn)
            deletions.append(Step("delete-replaced", old.urn, old))
        return Plan(step, deletions)

    def _dependents(self, root: Resource) -> list[Resource]:
        """Return what has to be replaced when `root` is deleted first, each after what it depends on."""
        reached, replaced, result = {root.urn}, {root.urn}, []
        for resource in self._journal.left():
            if resource is root or resource.delete or resource.urn in self.registered:
                continue
            if not reached & (resource.needs() - {resource.parent}):
                continue
            reached.add(resource.urn)
            if resource.custom and self._must_follow(resource, replaced):
                replaced.add(resource.urn)
                result.append(resource)
        return result

    def _must_follow(self, resource: Resource, replaced: set[str]) -> bool:
        """Say whether a resource has to be replaced because others are, by asking its provider."""
        if resource.provider_urn in replaced or resource.deleted_with in replaced:
            self.ensure_provider(resource)
            return True
        news = {
            key: UNKNOWN if replaced.intersection(resource.property_dependencies.get(key, ())) else value
            for key, value in resource.inputs.items()
        }
        if not any(value is UNKNOWN for value in news.values()):
            return False
        if resource.is_provider:
            self._registry.ensure(resource)
            diff = self._registry.diff(resource, news)
        else:
            self.ensure_provider(resource)
            provider = self._registry.get(resource.provider)
            diff = _ask(provider, resource, news, resource.ignore_changes, preview=True)
        _replace_on_changes(diff, resource.replace_on_changes)
        return diff.replace


def ignore(ignored: list[str], olds: Properties, news: Properties) -> Properties:
    """Return new inputs with the ignored properties as they were."""
    result = news
    for text in ignored:
        result = paths.reset(paths.parse(text), olds, result)
    return result


def _ask(provider: Provider, old: Resource, news: Properties, ignored: list[str], *, preview: bool) -> Diff:
    diff = provider.diff(old, news, preview=preview, ignore_changes=ignored)
    if diff.changes is None:
        compared = _compare(old.inputs, ignore(ignored, old.inputs, news))
        diff.changes, diff.changed = compared.changes, compared.changed
    return diff


def _compare(olds: Properties, news: Properties) -> Diff:
    changed = [
        key
        for key in sorted({*olds, *news})
        if key not in olds
        or key not in news
        or not values.equal(values.reveal(olds[key]), values.reveal(news[key]))
    ]
    return Diff(changes=bool(changed), changed=changed)


def _replace_on_changes(diff: Diff, wanted: list[str]) -> None:
    if not diff.changes:
        return
    outer = [paths.parse(text) for text in wanted]
    for key in diff.changed:
        if key not in diff.replaces and any(paths.contains(path, paths.parse(key)) for path in outer):
            diff.replaces.append(key)
    for text, kind in diff.detailed.items():
        if "replace" not in kind and any(paths.contains(path, paths.parse(text)) for path in outer):
            diff.detailed[text] = f"{kind}-replace"


def describe(urn: str) -> str:
    """Return how messages call a resource: its type and logical name."""
    return f"{type_of(urn)} {name_of(urn)}"
