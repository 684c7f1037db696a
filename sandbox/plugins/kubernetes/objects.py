"""Kubernetes objects as property values: which one is meant, what cannot be changed, what has drifted."""

from __future__ import annotations

import base64
import copy
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sandbox.engine.values import UNKNOWN, Secret, Unknown, reveal
from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.engine.values import Properties

AUTONAMED: Final = "pulumi.com/autonamed"
SKIP_AWAIT: Final = "pulumi.com/skipAwait"
# Says which resource of which stack made an object, so that a create cut short can be made again.
MARKER: Final = "berth/urn-hash"

# What the official provider makes a new object for: `forceNew` in its `provider/pkg/provider/diff.go`. What
# else the API refuses to change, such as a PriorityClass's value, is refused by it here as there.
_IMMUTABLE: Final[dict[str, tuple[str, ...]]] = {
    "ClusterRoleBinding": ("roleRef",),
    "ConfigMap": ("binaryData", "data"),
    "DaemonSet": ("spec.selector",),
    "Deployment": ("spec.selector",),
    "Job": ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    "PersistentVolumeClaim": (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeName",
    ),
    "ResourceQuota": ("spec.scopes",),
    "RoleBinding": ("roleRef",),
    "Secret": ("data", "stringData", "type"),
    "Service": ("spec.clusterIP",),
    "StatefulSet": (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    "StorageClass": ("parameters", "provisioner"),
}
_IDENTITY: Final = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Identity:
    """Which object is meant."""

    api_version: str
    kind: str


def identity(token: str, inputs: Mapping[str, Any]) -> Identity:
    """Return the kind of an object from its type token, such as `kubernetes:apps/v1:Deployment`.

    Raises:
        PluginError: the token is not of a plain object.
    """
    _, group, kind = token.split(":")
    if (group, kind) == ("helm.sh/v3", "Release"):
        raise PluginError(
            f"{token} is not supported by this plugin, which can have neither charts nor their images: leave "
            "charts out here, or use the official kubernetes plugin"
        )
    if kind.endswith("Patch") or group.startswith(("helm.sh", "yaml", "kustomize")):
        raise PluginError(
            f"the resource type {token} is not supported by this plugin, only by the official one"
        )
    api_version = inputs.get("apiVersion") or group.removeprefix("core/")
    return Identity(str(api_version), str(inputs.get("kind") or kind))


def immutable(inputs: Mapping[str, Any], *, mutable: frozenset[str]) -> tuple[str, ...]:
    """Return the property paths of an object whose change needs a new object.

    Args:
        inputs: the inputs wanted.
        mutable: kinds whose content the provider's settings allow to be changed in place, unless the object
            itself is immutable.
    """
    kind = str(reveal(inputs.get("kind")))
    if kind in mutable and inputs.get("immutable") is not True:
        return _IDENTITY
    return (*_IDENTITY, *_IMMUTABLE.get(kind, ()))


def generated_name(name: str, urn: str, previous: str) -> str:
    """Make up the name of an object: of its URN and its predecessor, not of chance.

    A create that is made again after it was cut short then finds what it made.
    """
    suffix = hashlib.sha256(f"{urn}\n{previous}".encode()).hexdigest()[:8]
    return f"{name.lower()[:54]}-{suffix}"


def marker(urn: str) -> str:
    """Return the mark that an object of a resource bears."""
    return hashlib.sha256(urn.encode()).hexdigest()[:32]


def metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's metadata without secret marks; {} where there is none or it is unknown."""
    found = reveal(value.get("metadata"))
    return dict(found) if isinstance(found, dict) else {}


def annotation(value: Mapping[str, Any], name: str) -> str:
    """Return an annotation, or an empty text."""
    annotations = metadata(value).get("annotations")
    found = annotations.get(name) if isinstance(annotations, dict) else None
    return found if isinstance(found, str) else ""


def body(inputs: Properties, kind: Identity, urn: str) -> dict[str, Any]:
    """Return the object to send: the inputs in plain, with their kind and this resource's mark."""
    sent: dict[str, Any] = reveal(
        copy.deepcopy({key: value for key, value in inputs.items() if not key.startswith("__")})
    )
    sent.update(apiVersion=kind.api_version, kind=kind.kind)
    sent.pop("status", None)
    own = sent.setdefault("metadata", {})
    own["annotations"] = {**(own.get("annotations") or {}), MARKER: marker(urn)}
    return sent


def leave_to_others(
    body: dict[str, Any], live: Mapping[str, Any], paths: Iterable[str], manager: str
) -> None:
    """Keep ignored properties as they are in the cluster, whatever state says of them.

    What another manager has set, as an autoscaler sets a number of replicas, is left out of what is applied;
    what this one has set is applied as it is, for else it would be unset. So does the official provider
    (`handleSSAIgnoreFields` in its `provider/pkg/await/await.go`). Paths into lists are not looked into.

    Args:
        body: the object to apply.
        live: the object as it is.
        paths: the ignored property paths.
        manager: who applies.
    """
    for path in paths:
        *parents, last = path.split(".")
        holder = _within(body, parents)
        if holder is None:
            continue
        owners = {
            entry.get("manager")
            for entry in live.get("metadata", {}).get("managedFields") or ()
            if _owns(entry.get("fieldsV1") or {}, [*parents, last])
        }
        present = _within(live, parents)
        if owners and manager not in owners:
            holder.pop(last, None)
        elif present is not None and last in present:
            holder[last] = present[last]


def _within(value: Any, path: list[str]) -> dict[str, Any] | None:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _owns(fields: Mapping[str, Any], path: list[str]) -> bool:
    return not path or (f"f:{path[0]}" in fields and _owns(fields[f"f:{path[0]}"], path[1:]))


def without_unknowns(value: Any) -> Any:
    """Leave out what is not known yet."""
    match value:
        case Secret():
            return without_unknowns(value.value)
        case dict():
            return {
                key: without_unknowns(item) for key, item in value.items() if not isinstance(item, Unknown)
            }
        case list():
            return [without_unknowns(item) for item in value if not isinstance(item, Unknown)]
    return value


def outputs(found: Mapping[str, Any]) -> Properties:
    """Return an object's properties: all but what managers keep there; a Secret's content is secret."""
    result = copy.deepcopy(dict(found))
    own = result.get("metadata", {})
    own.pop("managedFields", None)
    annotations = own.get("annotations") or {}
    annotations.pop(MARKER, None)
    if not annotations:
        own.pop("annotations", None)
    if result.get("kind") == "Secret" and "data" in result:
        result["data"] = Secret(result["data"])
    return result


def planned(inputs: Properties) -> Properties:
    """Return what is known of an object's properties before the API has completed it."""
    result = copy.deepcopy(inputs)
    own = result.get("metadata")
    if isinstance(own, dict):
        for name in ("creationTimestamp", "generation", "resourceVersion", "uid"):
            own.setdefault(name, UNKNOWN)
    if result.get("kind") == "Service" and isinstance(spec := result.get("spec"), dict):
        spec.setdefault("clusterIP", UNKNOWN)
        if spec.get("type") in {"NodePort", "LoadBalancer"}:
            for port in spec.get("ports") or ():
                port.setdefault("nodePort", UNKNOWN)
    if result.get("kind") not in {"ConfigMap", "Secret"}:
        result["status"] = UNKNOWN
    return result


def settle(given: Any, applied: Any, live: Any) -> Any:
    """Return what an input is now.

    Args:
        given: the input.
        applied: what the object would be, were the input applied again.
        live: what the object is.
    """
    if isinstance(given, Secret):
        return Secret(settle(given.value, applied, live))
    if applied == live:
        return given
    if isinstance(given, dict) and isinstance(applied, dict) and isinstance(live, dict):
        now = {key: settle(value, applied.get(key), live.get(key)) for key, value in given.items()}
        return {key: value for key, value in now.items() if value is not None}
    if isinstance(given, list) and isinstance(live, list) and isinstance(applied, list):
        if len(given) == len(applied) == len(live):
            return [settle(*items) for items in zip(given, applied, live, strict=True)]
        return live
    return live


def settle_text_data(inputs: Properties, applied: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    """Bring a Secret's `stringData`, which the API never shows, up to date with its `data`."""
    given = inputs.get("stringData")
    texts = reveal(given)
    if not isinstance(texts, dict):
        return
    wanted, actual = applied.get("data") or {}, live.get("data") or {}
    now = dict(texts)
    for key in texts:
        if wanted.get(key) != actual.get(key):
            now[key] = base64.b64decode(actual.get(key, "")).decode(errors="replace")
    if now != texts:
        inputs["stringData"] = Secret(now) if isinstance(given, Secret) else now
