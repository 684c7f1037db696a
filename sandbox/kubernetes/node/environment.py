"""Makes a container's environment and command line from its spec: references, Service links and `$(NAME)`."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.node.quantities import divide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sandbox.kubernetes.node.api import Api, Object

_REFERENCE = re.compile(r"\$(\$|\([-._a-zA-Z0-9]+\))")
_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(RuntimeError):
    """A container's spec refers to what is not there; the message is the kubelet's."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value; `$$(NAME)` stays as `$(NAME)`, an unknown name as it is."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[1][1:-1], match[0])

    return _REFERENCE.sub(replace, text)


def build(
    api: Api,
    pod: Object,
    container: Object,
    *,
    services: Iterable[Object],
    api_server: tuple[str, str],
    fields: Mapping[str, str],
    allocatable: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of a container.

    Args:
        api: where Secrets and ConfigMaps are read.
        pod: the pod.
        container: its spec.
        services: all Services, for Service links.
        api_server: host and port of the API server, in the place of its cluster IP, which leads nowhere.
        fields: what `fieldRef` gives for the pod's status and node ("status.podIP": ...).
        allocatable: the node's resources, which stand for limits that the container does not set.

    Raises:
        ConfigError: a Secret, ConfigMap or key that is not optional is missing, or a kind is not known.
    """
    namespace = pod["metadata"]["namespace"]
    variables: dict[str, str] = {}
    if pod["spec"].get("enableServiceLinks", True):
        for service in services:
            if service["metadata"]["namespace"] == namespace and service["metadata"]["name"] != "kubernetes":
                variables.update(_service_links(service))
    host, port = api_server
    variables.update({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port})
    source = _Source(api, pod, container, fields, allocatable)
    for group in container.get("envFrom") or ():
        variables.update(source.group(group))
    for entry in container.get("env") or ():
        value = entry.get("value")
        if entry.get("valueFrom"):
            value = source.value(entry["valueFrom"])
        elif value is not None:
            value = expand(value, variables)
        if value is not None:
            variables[entry["name"]] = value
        elif not entry.get("valueFrom"):
            variables[entry["name"]] = ""
    return variables


def field(pod: Object, path: str, fields: Mapping[str, str]) -> str:
    """Return what a `fieldRef` points at.

    Raises:
        ConfigError: the node does not know the path.
    """
    metadata = pod["metadata"]
    if path in fields:
        return fields[path]
    if path in {"metadata.name", "metadata.namespace", "metadata.uid"}:
        return str(metadata[path.partition(".")[2]])
    if path == "spec.serviceAccountName":
        return str(pod["spec"].get("serviceAccountName", "default"))
    if path in {"metadata.labels", "metadata.annotations"}:
        values = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    if match := _FIELD.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    raise ConfigError(f"fieldPath {path!r} is not supported")


def resource(reference: Mapping[str, Any], container: Object, allocatable: Mapping[str, str]) -> str:
    """Return what a `resourceFieldRef` points at, in units of its divisor."""
    kind, _, name = reference["resource"].partition(".")
    amounts = (container.get("resources") or {}).get(kind) or {}
    amount = amounts.get(name) or (allocatable.get(name, "0") if kind == "limits" else "0")
    return divide(str(amount), str(reference.get("divisor") or "1"))


class _Source:
    """Values from outside a container's own spec."""

    def __init__(
        self,
        api: Api,
        pod: Object,
        container: Object,
        fields: Mapping[str, str],
        allocatable: Mapping[str, str],
    ) -> None:
        self._pod = pod
        self._container = container
        self._fields = fields
        self._allocatable = allocatable
        self._api = api
        self._kinds: Mapping[str, tuple[str, Callable[[str], dict[str, str] | None]]] = {
            "secretKeyRef": ("Secret", self._secret),
            "secretRef": ("secret", self._secret),
            "configMapKeyRef": ("ConfigMap", self._config_map),
            "configMapRef": ("configmap", self._config_map),
        }

    def value(self, reference: Mapping[str, Any]) -> str | None:
        """Return the value of a `valueFrom`; None where an optional one is missing."""
        (kind, where), *_ = reference.items()
        if kind == "fieldRef":
            return field(self._pod, where["fieldPath"], self._fields)
        if kind == "resourceFieldRef":
            return resource(where, self._container, self._allocatable)
        if kind not in {"secretKeyRef", "configMapKeyRef"}:
            raise ConfigError(f"valueFrom.{kind} is not supported by the sandbox's node")
        label, read = self._kinds[kind]
        namespace = self._pod["metadata"]["namespace"]
        data = read(where["name"])
        if data is None and not where.get("optional"):
            raise ConfigError(f'{label.lower()} "{where["name"]}" not found')
        if data is not None and where["key"] not in data and not where.get("optional"):
            raise ConfigError(f"couldn't find key {where['key']} in {label} {namespace}/{where['name']}")
        return (data or {}).get(where["key"])

    def group(self, reference: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of an `envFrom`."""
        prefix = reference.get("prefix") or ""
        kind = "secretRef" if reference.get("secretRef") else "configMapRef"
        where = reference[kind]
        label, read = self._kinds[kind]
        data = read(where["name"])
        if data is None and not where.get("optional"):
            raise ConfigError(f'{label} "{where["name"]}" not found')
        return {f"{prefix}{key}": value for key, value in (data or {}).items()}

    def _secret(self, name: str) -> dict[str, str] | None:
        data = read_data(self._api, self._pod["metadata"]["namespace"], "secrets", name)
        return None if data is None else {key: value.decode() for key, value in data.items()}

    def _config_map(self, name: str) -> dict[str, str] | None:
        data = read_data(self._api, self._pod["metadata"]["namespace"], "configmaps", name)
        return None if data is None else {key: value.decode(errors="replace") for key, value in data.items()}


def read_data(api: Api, namespace: str, resource_name: str, name: str) -> dict[str, bytes] | None:
    """Return the contents of a Secret or a ConfigMap; None if there is none.

    Args:
        api: where it is read.
        namespace: its namespace.
        resource_name: "secrets" or "configmaps".
        name: its name.
    """
    found = api.get_referenced(f"/api/v1/namespaces/{namespace}/{resource_name}/{name}")
    if found is None:
        return None
    if resource_name == "secrets":
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return data | {key: b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def _service_links(service: Object) -> dict[str, str]:
    address = service["spec"].get("clusterIP")
    ports: Sequence[Object] = service["spec"].get("ports") or ()
    if address in {None, "", "None"} or not ports:
        return {}
    name = service["metadata"]["name"].upper().replace("-", "_")
    first = ports[0]
    links = {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(first["port"]),
        f"{name}_PORT": f"{first['protocol'].lower()}://{address}:{first['port']}",
    }
    for port in ports:
        if port.get("name"):
            links[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        prefix = f"{name}_PORT_{port['port']}_{port['protocol']}"
        links[prefix] = f"{port['protocol'].lower()}://{address}:{port['port']}"
        links[f"{prefix}_PROTO"] = port["protocol"].lower()
        links[f"{prefix}_PORT"] = str(port["port"])
        links[f"{prefix}_ADDR"] = address
    return links
