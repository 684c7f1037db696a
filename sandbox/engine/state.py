"""The state of a stack: its resources, and their JSON form in Pulumi's deployment schema, version 3."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sandbox.engine.errors import EngineError, UnsupportedError
from sandbox.engine.values import (
    SECRET_SIGNATURE,
    SIGNATURE,
    UNKNOWN_STRING,
    Properties,
    Reference,
    Secret,
    Unknown,
    Wire,
    from_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.engine.crypto import Crypter

STACK_TYPE = "pulumi:pulumi:Stack"
PROVIDER_PREFIX = "pulumi:providers:"
_SCHEMA_VERSION = 3


def now() -> str:
    """Return the time as Pulumi writes it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def make_urn(stack: str, project: str, parent: str, type_: str, name: str) -> str:
    """Return the URN of a resource; `parent` is its parent's URN, or ""."""
    outer = qualified_type(parent) if parent else ""
    qualified = type_ if outer in ("", STACK_TYPE) else f"{outer}${type_}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def qualified_type(urn: str) -> str:
    """Return the type in a URN with its parents' types before it, separated by `$`."""
    return urn.split("::", 3)[2]


def name_of(urn: str) -> str:
    """Return the logical name in a URN."""
    return urn.split("::", 3)[3]


def type_of(urn: str) -> str:
    """Return the type in a URN."""
    return qualified_type(urn).rsplit("$", 1)[-1]


@dataclass(eq=False)
class Resource:
    """One resource in state. Two entries may have the same URN while one is being replaced."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    parent: str = ""
    provider: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool = False
    delete: bool = False
    pending_replacement: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    init_errors: list[str] = field(default_factory=list)
    additional_secret_outputs: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    created: str = ""
    modified: str = ""

    @property
    def name(self) -> str:
        """The logical name."""
        return name_of(self.urn)

    @property
    def is_provider(self) -> bool:
        """Whether this is an instance of a provider plugin."""
        return self.type.startswith(PROVIDER_PREFIX)

    @property
    def reference(self) -> str:
        """How resources refer to this provider: `URN::id`."""
        return f"{self.urn}::{self.id}"

    @property
    def provider_urn(self) -> str:
        """The URN of the provider that manages this resource, or ""."""
        return self.provider.rpartition("::")[0]

    def needs(self) -> set[str]:
        """Return the URNs that must exist as long as this resource does."""
        urns = {self.parent, self.provider_urn, self.deleted_with, *self.dependencies}
        urns.update(urn for list_ in self.property_dependencies.values() for urn in list_)
        return urns - {""}

    def forget(self, urn: str) -> None:
        """Drop the references to a resource that is no more."""
        self.dependencies = [other for other in self.dependencies if other != urn]
        self.property_dependencies = {
            key: [other for other in urns if other != urn] for key, urns in self.property_dependencies.items()
        }
        self.deleted_with = "" if self.deleted_with == urn else self.deleted_with

    def rename(self, urns: dict[str, str]) -> None:
        """Follow renamed resources (old URN to new) in every reference."""

        def new(urn: str) -> str:
            return urns.get(urn, urn)

        self.parent, self.deleted_with = new(self.parent), new(self.deleted_with)
        self.dependencies = [new(urn) for urn in self.dependencies]
        self.property_dependencies = {
            key: [new(urn) for urn in list_] for key, list_ in self.property_dependencies.items()
        }
        if self.provider:
            urn, _, id_ = self.provider.rpartition("::")
            self.provider = f"{new(urn)}::{id_}"


@dataclass
class Operation:
    """An operation that was begun; one found in state was interrupted.

    Args:
        kind: "creating", "updating", "deleting" or "reading".
        resource: what it was done to; one being created has no id yet.
    """

    kind: str
    resource: Resource


@dataclass
class Snapshot:
    """All resources of a stack, each after what it depends on, and the operations that are under way."""

    resources: list[Resource] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def live(self) -> Iterator[Resource]:
        """Return the resources that are not waiting for deletion."""
        return (resource for resource in self.resources if not resource.delete)


# The keys of a resource in JSON, in the order in which Pulumi writes them, with the attribute of each.
_KEYS = {
    "urn": "urn",
    "custom": "custom",
    "delete": "delete",
    "id": "id",
    "type": "type",
    "inputs": "inputs",
    "outputs": "outputs",
    "parent": "parent",
    "protect": "protect",
    "dependencies": "dependencies",
    "initErrors": "init_errors",
    "provider": "provider",
    "propertyDependencies": "property_dependencies",
    "pendingReplacement": "pending_replacement",
    "additionalSecretOutputs": "additional_secret_outputs",
    "customTimeouts": "custom_timeouts",
    "retainOnDelete": "retain_on_delete",
    "deletedWith": "deleted_with",
    "created": "created",
    "modified": "modified",
    "ignoreChanges": "ignore_changes",
    "replaceOnChanges": "replace_on_changes",
}
# Written by the CLI, of no consequence for what a resource is.
_DROPPED_KEYS = {"sourcePosition", "stackTrace", "aliases", "hideDiff", "taint", "defaults"}


class Codec:
    """Turns snapshots into JSON and back.

    Args:
        crypter: encrypts secrets; without one they are written as `[secret]`, for people's eyes.
    """

    def __init__(self, crypter: Crypter | None) -> None:
        self._crypter = crypter

    def resource(self, resource: Resource) -> dict[str, Any]:
        """Return a resource's JSON form."""
        result: dict[str, Any] = {}
        for key, attribute in _KEYS.items():
            value = getattr(resource, attribute)
            if key in ("inputs", "outputs"):
                value = self._encode(value)
            if value or key == "custom":
                result[key] = value
        return result

    def _encode(self, value: Any) -> Any:
        match value:
            case Secret():
                plaintext = json.dumps(self._encode(value.value), separators=(",", ":"), ensure_ascii=False)
                ciphertext = self._crypter.encrypt(plaintext) if self._crypter else "[secret]"
                return {SIGNATURE: SECRET_SIGNATURE, "ciphertext": ciphertext}
            case Unknown():
                return UNKNOWN_STRING
            case Reference():
                fields = {"urn": value.urn, "packageVersion": value.version}
                signed = {SIGNATURE: "5cf8f73096256a8f31e491e813e4eb8e", **fields}
                return signed if value.id is None else {**signed, "id": self._encode(value.id)}
            case list():
                return [self._encode(item) for item in value]
            case dict():
                return {key: self._encode(value[key]) for key in sorted(value)}
        return value

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        signature = value.get(SIGNATURE)
        if signature == SECRET_SIGNATURE:
            if self._crypter is None:
                raise EngineError("state with secrets cannot be read without a passphrase")
            plaintext = value.get("plaintext") or self._crypter.decrypt(value["ciphertext"])
            return Secret(self._decode(json.loads(plaintext)))
        if signature is not None:
            return from_value(Wire().value(value))
        return {key: self._decode(item) for key, item in value.items()}

    def read_resource(self, data: dict[str, Any]) -> Resource:
        """Read a resource from its JSON form.

        Raises:
            UnsupportedError: it was made with a feature that this engine lacks.
        """
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key in _KEYS:
                values[_KEYS[key]] = self._decode(value) if key in ("inputs", "outputs") else value
            elif key not in _DROPPED_KEYS:
                raise UnsupportedError(f"{key} of {data['urn']} in this stack's state")
        return Resource(**values)

    def checkpoint(self, stack: str, snapshot: Snapshot) -> dict[str, Any]:
        """Return a snapshot's JSON form, as the file backend stores it.

        Args:
            stack: the full name, `organization/<project>/<stack>`.
            snapshot: the state.
        """
        version = f"v{metadata.version('pulumi')}"
        deployment: dict[str, Any] = {
            "manifest": {"time": now(), "magic": sha256(version.encode()).hexdigest(), "version": version}
        }
        if self._crypter is not None:
            deployment["secrets_providers"] = {"type": "passphrase", "state": {"salt": self._crypter.salt}}
        if snapshot.resources:
            deployment["resources"] = [self.resource(resource) for resource in snapshot.resources]
        if snapshot.operations:
            deployment["pending_operations"] = [
                {"resource": self.resource(operation.resource), "type": operation.kind}
                for operation in snapshot.operations
            ]
        deployment["metadata"] = {}
        return {"version": _SCHEMA_VERSION, "checkpoint": {"stack": stack, "latest": deployment}}

    def read_checkpoint(self, data: dict[str, Any]) -> Snapshot:
        """Read a snapshot from its JSON form.

        Raises:
            UnsupportedError: it was made with a feature that this engine lacks.
        """
        if data.get("version") != _SCHEMA_VERSION:
            features = ", ".join(data.get("features", [])) or f"schema version {data.get('version')}"
            raise UnsupportedError(f"{features} in this stack's state")
        latest = data["checkpoint"].get("latest") or {}
        return Snapshot(
            [self.read_resource(item) for item in latest.get("resources", [])],
            [
                Operation(item["type"], self.read_resource(item["resource"]))
                for item in latest.get("pending_operations", [])
            ],
        )
