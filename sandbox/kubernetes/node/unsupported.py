"""Finds what a pod asks for that this node cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VOLUMES = ("emptyDir", "configMap", "secret", "projected", "downwardAPI", "hostPath")
_SOURCES = ("configMap", "secret", "downwardAPI", "serviceAccountToken")
_POD_FIELDS = (
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "runtimeClassName",
    "hostAliases",
    "imagePullSecrets",
    "resourceClaims",
    "ephemeralContainers",
    "setHostnameAsFQDN",
)
_CONTAINER_FIELDS = ("volumeDevices", "stdin", "tty", "restartPolicyRules")
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def find(spec: Mapping[str, Any]) -> list[str]:
    """Return the fields of a pod's spec that the node does not support, as a user would look for them."""
    return list(_fields(spec))


def _fields(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in _POD_FIELDS:
        if spec.get(field):
            yield f"spec.{field}"
    for volume in spec.get("volumes") or ():
        kinds = [key for key in volume if key != "name"] or ["emptyDir"]
        where = f"spec.volumes[{volume['name']}]"
        yield from (f"{where}.{kind}" for kind in kinds if kind not in VOLUMES)
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from (f"{where}.projected.sources.{kind}" for kind in source if kind not in _SOURCES)
    for group in ("initContainers", "containers"):
        for container in spec.get(group) or ():
            yield from _container_fields(container, f"spec.{group}[{container['name']}]")


def _container_fields(container: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from (f"{where}.{field}" for field in _CONTAINER_FIELDS if container.get(field))
    if container.get("restartPolicy"):
        yield f"{where}.restartPolicy"
    if container.get("imagePullPolicy") == "Never":
        yield f"{where}.imagePullPolicy: Never"
    if (container.get("securityContext") or {}).get("privileged"):
        yield f"{where}.securityContext.privileged"
    yield from (
        f"{where}.ports[{port['containerPort']}].hostPort"
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )
    if (container.get("lifecycle") or {}).get("stopSignal"):
        yield f"{where}.lifecycle.stopSignal"
    yield from (f"{where}.{probe}.grpc" for probe in _PROBES if (container.get(probe) or {}).get("grpc"))
    for mount in container.get("volumeMounts") or ():
        for field in ("subPathExpr", "mountPropagation"):
            if mount.get(field) not in (None, "None"):
                yield f"{where}.volumeMounts[{mount['name']}].{field}"
