"""The provider instances of one run, by the provider resources that they belong to.

A provider resource is managed by the engine itself: to create it is to configure a plugin
(`pkg/resource/deploy/providers/registry.go`).
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from sandbox.engine import values
from sandbox.engine.errors import EngineError
from sandbox.engine.plugins import CheckResult, Diff, Provider, ProviderError
from sandbox.engine.values import UNKNOWN_STRING, Properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.engine.state import Resource

_INTERNAL_KEY = "__internal"


def _package(resource_type: str) -> str:
    return resource_type.rpartition(":")[2]


def _config(inputs: Properties) -> Properties:
    return {key: value for key, value in inputs.items() if key != _INTERNAL_KEY}


class Registry:
    """Loads, configures and hands out providers.

    Args:
        start: starts the plugin of a package.
    """

    def __init__(self, start: Callable[[str], Provider]) -> None:
        self._start = start
        self._lock = threading.RLock()
        self._checked: dict[str, Provider] = {}
        self._configured: dict[str, Provider] = {}
        self._started: list[Provider] = []
        self._pool = ThreadPoolExecutor(thread_name_prefix="plugin")
        self._prestarted: dict[str, list[Future[Provider]]] = {}

    def prestart(self, types: list[str]) -> None:
        """Start plugins that will be needed, at once and before they are: each takes a moment."""
        for resource_type in types:
            started = self._pool.submit(self._start, _package(resource_type))
            self._prestarted.setdefault(resource_type, []).append(started)

    def _load(self, resource_type: str) -> Provider:
        with self._lock:
            waiting = self._prestarted.get(resource_type)
            started = waiting.pop() if waiting else None
        provider = started.result() if started else self._start(_package(resource_type))
        with self._lock:
            self._started.append(provider)
        return provider

    def get(self, reference: str) -> Provider:
        """Return the configured provider that a resource names.

        Raises:
            EngineError: there is none of that name.
        """
        with self._lock:
            if reference not in self._configured:
                raise EngineError(f"the provider {reference} is not known in this run")
            return self._configured[reference]

    def has(self, reference: str) -> bool:
        """Say whether this provider is configured."""
        return reference in self._configured

    def check(self, new: Resource, olds: Properties) -> CheckResult:
        """Check a provider's configuration; the plugin that did waits to be configured."""
        provider = self._load(new.type)
        result = provider.check_config(new.urn, _config(olds), _config(new.inputs))
        if not result.failures:
            self._checked[new.urn] = provider
        for key in ("version", _INTERNAL_KEY):
            if key in new.inputs:
                result.inputs.setdefault(key, new.inputs[key])
        return result

    def diff(self, old: Resource, news: Properties) -> Diff:
        """Compare a provider's configuration with the recorded one."""
        provider = self._checked.get(old.urn) or self.get(old.reference)
        diff = provider.diff_config(old.urn, _config(old.inputs), old.outputs, _config(news))
        if diff.changes is None:
            diff.changes = not values.equal(old.outputs, _config(news))
        return diff

    def ensure(self, resource: Resource) -> None:
        """Configure a provider as recorded, unless it is already.

        Raises:
            EngineError: it cannot be started or refuses its configuration.
        """
        with self._lock:
            if resource.reference not in self._configured:
                provider = self._load(resource.type)
                self._configure(provider, resource)

    def same(self, resource: Resource) -> None:
        """Configure a provider that was checked and found unchanged."""
        with self._lock:
            checked = self._checked.pop(resource.urn, None)
            if resource.reference not in self._configured:
                self._configure(checked or self._load(resource.type), resource)

    def apply(self, resource: Resource, *, preview: bool) -> None:
        """Create a provider, or update it where it has an id: configure the plugin that checked it."""
        with self._lock:
            provider = self._checked.pop(resource.urn, None) or self._load(resource.type)
            if not resource.id:
                resource.id = UNKNOWN_STRING if preview else str(uuid.uuid4())
            self._configure(provider, resource)
            resource.outputs = _config(resource.inputs)

    def _configure(self, provider: Provider, resource: Resource) -> None:
        try:
            provider.configure(resource.urn, resource.id, _config(resource.inputs))
        except ProviderError as error:
            raise ProviderError(f"the provider {resource.name} cannot be configured: {error}") from error
        self._configured[resource.reference] = provider

    def cancel(self) -> None:
        """Ask every plugin to give up what it is doing."""
        for provider in list(self._started):
            provider.cancel()

    def close(self) -> None:
        """End every plugin."""
        self._pool.shutdown()
        unused = [started for waiting in self._prestarted.values() for started in waiting]
        self._prestarted = {}
        for provider in [*self._started, *(item.result() for item in unused if not item.exception())]:
            provider.close()
