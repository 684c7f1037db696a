"""What has changed outside of the project, property by property, and who changes such a thing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from infra.settings import Settings

SECRET = "[secret]"  # noqa: S105  # what stands for one
_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi marks values that are more than JSON, secrets among them."""
_NOT_SHOWN = {"__provider", "__defaults", "__meta"}
_PARTS = ("inputs", "outputs")
_FACT = "the platform, which tells it: the stack does not set it, as of a target group its load balancer"


@dataclass(frozen=True)
class Moved:
    """A resource that is not any more as the state has it.

    Args:
        urn: its URN.
        type: its type.
        before: what the state has: `inputs` and `outputs`, secrets hidden.
        after: the same as it is now; None where it is gone.
        keys: the properties that differ, those with hidden values too.
    """

    urn: str
    type: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One property that has changed, or a whole resource that is gone.

    Args:
        resource: its logical name.
        type: its type.
        path: the property; empty where the resource is gone.
        before: what the state has.
        after: what it is now.
        owner: who changes it.
        expected: it is meant to be changed by its owner, and no `up` changes it back.
    """

    resource: str
    type: str
    path: str
    before: Any
    after: Any
    owner: str
    expected: bool = field(default=False)


def changes(moved: Iterable[Moved], settings: Settings) -> list[Change]:
    """Return every change of some resources, with its owner."""
    return [change for item in moved for change in _changes(item, settings)]


def _changes(moved: Moved, settings: Settings) -> Iterator[Change]:
    name = moved.urn.rpartition("::")[2]
    if moved.after is None:
        yield Change(name, moved.type, "", "there", "gone", "somebody deleted it")
        return
    found: dict[str, tuple[Any, Any]] = {}
    # What the provider has both as a setting and as a fact is said once.
    for part in _PARTS:
        for path, before, after in _differences("", moved.before.get(part, {}), moved.after.get(part, {})):
            found.setdefault(path, (before, after))
    for key in moved.keys:
        if _hides(moved, key) and not any(_top(path) == key for path in found):
            found[key] = SECRET, SECRET
    settable = {*moved.before.get("inputs", {}), *moved.after.get("inputs", {})}
    for path, (before, after) in found.items():
        owner, expected = _owner(moved.type, path, before, after, settings)
        if not expected and _top(path) not in settable:
            owner, expected = _FACT, True
        yield Change(name, moved.type, path, before, after, owner, expected)


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    before, after = _plain(before), _plain(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after} - _NOT_SHOWN):
            inner = f"{path}.{key}" if path else key
            yield from _differences(inner, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}[{index}]", *pair)
    elif before != after and not (_is_empty(before) and _is_empty(after)):
        yield path, before, after


def _is_empty(value: Any) -> bool:
    """Say whether a value says nothing: clouds answer an empty list where none was given."""
    return value is None or value in ("", [], {})


def _plain(value: Any) -> Any:
    return SECRET if isinstance(value, dict) and _SIGNATURE in value else value


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _hides(moved: Moved, key: str) -> bool:
    """Say whether a property has a secret in it, so that it may differ where nothing shows it."""
    texts = [
        json.dumps(side.get(part, {}).get(key))
        for side in (moved.before, moved.after or {})
        for part in _PARTS
    ]
    return any(SECRET in text for text in texts)


@dataclass(frozen=True)
class _Rule:
    """Who changes a property by itself.

    Args:
        type: a pattern of resource types.
        path: a pattern of property paths, from their start.
        owner: who, in words.
        applies: whether it does so in this stack, from its settings and the values before and after.
        expected: whether `up` leaves it as it is.
    """

    type: str
    path: str
    owner: str
    applies: Callable[[Settings, Any, Any], bool]
    expected: bool


def _always(_settings: Settings, _before: Any, _after: Any) -> bool:
    return True


def _is_idle_limit(_settings: Settings, before: Any, after: Any) -> bool:
    # To 2 after 3 days without a request, to 0 after 7; source: RunPod's endpoint settings page.
    return isinstance(before, int | float) and after in (0, 2) and after < before


_RULES = (
    _Rule(
        r"aws:eks/nodeGroup:NodeGroup",
        r"scalingConfig\.desiredSize",
        "the Cluster Autoscaler, by the pods that wait",
        lambda settings, _before, _after: settings.eks is not None and settings.eks.cluster_autoscaler,
        expected=True,
    ),
    _Rule(
        r"aws:eks/cluster:Cluster",
        r"platformVersion",
        "EKS, which updates its platform by itself",
        _always,
        expected=True,
    ),
    _Rule(
        r"kubernetes:apps/v1:Deployment",
        r"spec\.replicas",
        "KEDA, by the load",
        lambda settings, _before, _after: settings.eks is not None and settings.eks.autoscaling is not None,
        expected=True,
    ),
    _Rule(
        r"kubernetes:.*",
        r"(status|metadata\.(resourceVersion|generation|managedFields))",
        "Kubernetes, which keeps count of what it does",
        _always,
        expected=True,
    ),
    _Rule(
        r"pulumi-python:dynamic/runpod:Endpoint",
        r"workers\.max",
        "RunPod, which lowers it when nobody has asked for 3 and 7 days; or somebody",
        _is_idle_limit,
        expected=False,
    ),
)


def _owner(type_: str, path: str, before: Any, after: Any, settings: Settings) -> tuple[str, bool]:
    for rule in _RULES:
        is_meant = re.fullmatch(rule.type, type_) and re.match(rule.path + r"(?![A-Za-z0-9])", path)
        if is_meant and rule.applies(settings, before, after):
            return rule.owner, rule.expected
    return "somebody: neither the stack nor its platform is known to change it", False
