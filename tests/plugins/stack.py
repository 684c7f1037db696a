"""Makes objects through a plugin and holds each to the rules that hold for all types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.plugins.driver import Plugin, Resource


class Stack:
    """Makes objects and holds each to the rules that hold for all."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.made: list[tuple[Resource, dict[str, Any]]] = []

    def make(self, type_: str, name: str, inputs: dict[str, Any]) -> Resource:
        resource = self.plugin.create(type_, name, inputs)
        self.made.append((resource, inputs))
        assert not self.plugin.diff(resource, inputs).changes, "a second update would change it"
        read = self.plugin.read(resource)
        assert read is not None
        assert not self.plugin.diff_checked(resource, read.inputs).changes, "a refresh sees drift"
        assert read.outputs == resource.outputs
        return resource

    def change(self, resource: Resource, **changes: Any) -> Resource:
        """Change inputs in place; afterwards the cloud agrees with them."""
        given = next(inputs for made, inputs in self.made if made is resource)
        news = {**given, **changes}
        difference = self.plugin.diff(resource, news)
        assert difference.changes
        assert difference.replaces == []
        changed = self.plugin.update(resource, news)
        read = self.plugin.read(changed)
        assert read is not None
        assert not self.plugin.diff_checked(changed, read.inputs).changes
        return changed

    def delete_all(self) -> None:
        for resource, _ in reversed(self.made):
            self.plugin.delete(resource)
            assert self.plugin.read(resource) is None
            self.plugin.delete(resource)  # what is gone is deleted
