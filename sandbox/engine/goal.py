"""What a program wants of one resource: a registration, read from the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.engine import values
from sandbox.engine.errors import EngineError, UnsupportedError
from sandbox.engine.state import PROVIDER_PREFIX

if TYPE_CHECKING:
    from pulumi.runtime.proto import resource_pb2

    from sandbox.engine.values import Properties

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass
class Goal:
    """A registration. What is None was left to the parent or the provider."""

    type: str
    name: str
    custom: bool
    parent: str = ""
    inputs: Properties = field(default_factory=dict)
    provider: str = ""
    providers: dict[str, str] = field(default_factory=dict)
    version: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    protect: bool | None = None
    retain_on_delete: bool | None = None
    delete_before_replace: bool | None = None
    deleted_with: str = ""
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    additional_secret_outputs: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The package that the type is from."""
        return self.type.split(":", 1)[0]

    @property
    def is_provider(self) -> bool:
        """Whether it is an instance of a provider plugin."""
        return self.type.startswith(PROVIDER_PREFIX)

    def inherit(self, parent: Goal) -> None:
        """Take from the parent what was not said (`inheritFromParent` of Pulumi's `source_eval.go`)."""
        if self.protect is None:
            self.protect = parent.protect
        if self.retain_on_delete is None:
            self.retain_on_delete = parent.retain_on_delete
        self.deleted_with = self.deleted_with or parent.deleted_with
        if not self.provider and self.custom and f"{PROVIDER_PREFIX}{self.package}::" in parent.provider:
            self.provider = parent.provider
        if not self.provider and self.custom:
            self.provider = self.providers.get(self.package) or parent.providers.get(self.package, "")
        if not self.custom:
            self.providers = {**parent.providers, **self.providers}


def read(request: resource_pb2.RegisterResourceRequest) -> Goal:
    """Read a registration.

    Raises:
        UnsupportedError: it uses an option that the engine lacks; the message names it.
        EngineError: it is malformed.
    """
    for used, feature in (
        (request.remote, f"remote components ({request.type})"),
        (request.importId, f"the option import_ (of {request.name})"),
        (request.transforms, f"transforms (of {request.name})"),
        (request.HasField("hooks") and request.hooks.ByteSize(), f"resource hooks (of {request.name})"),
        (request.packageRef, f"parameterized packages ({request.type})"),
        (request.replace_with, f"the option replace_with (of {request.name})"),
        (request.HasField("replacement_trigger"), f"the option replacement_trigger (of {request.name})"),
        (request.envVarMappings, f"the option env_var_mappings (of {request.name})"),
        (request.pluginChecksums, f"plugin checksums (of {request.name})"),
        (request.state_migrations, f"state migrations (of {request.name})"),
    ):
        if used:
            raise UnsupportedError(feature)
    inputs = values.from_struct(request.object)
    dependencies = sorted(request.dependencies)
    if request.propertyDependencies:
        property_dependencies = {
            key: sorted(item.urns) for key, item in sorted(request.propertyDependencies.items())
        }
    else:
        property_dependencies = dict.fromkeys(inputs, dependencies)
    for key in inputs:
        property_dependencies.setdefault(key, [])
    goal = Goal(
        type=request.type,
        name=request.name,
        custom=request.custom,
        parent=request.parent,
        inputs=inputs,
        provider=request.provider,
        providers=dict(request.providers),
        version=request.version,
        dependencies=dependencies,
        property_dependencies=property_dependencies,
        aliases=[*request.aliasURNs, *(alias.urn for alias in request.aliases if alias.urn)],
        protect=request.protect if request.HasField("protect") else None,
        retain_on_delete=request.retainOnDelete if request.HasField("retainOnDelete") else None,
        delete_before_replace=(
            request.deleteBeforeReplace
            if request.deleteBeforeReplaceDefined or request.deleteBeforeReplace
            else None
        ),
        deleted_with=request.deletedWith,
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        additional_secret_outputs=list(request.additionalSecretOutputs),
        custom_timeouts={
            kind: _seconds(text)
            for kind in ("create", "update", "delete", "read")
            if (text := getattr(request.customTimeouts, kind))
        },
    )
    if goal.is_provider and request.version:
        goal.inputs["version"] = request.version
    if goal.is_provider and request.pluginDownloadURL:
        goal.inputs["__internal"] = {"pluginDownloadURL": request.pluginDownloadURL}
    return goal


def _seconds(text: str) -> float:
    """Read a duration in Go's notation, such as `1h30m`."""
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise EngineError(f"{text!r} is not a duration: write 30s, 10m or 1h30m")
    total = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return int(total) if total == int(total) else total
