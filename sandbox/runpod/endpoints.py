"""The endpoint as a resource: defaults, rules, how a change is merged, what makes a new release."""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING, Any

from sandbox.runpod import catalogue, placement
from sandbox.runpod.problems import bad_request, not_found, unprocessable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sandbox.runpod.store import Store

WORKER_QUOTA = 5
"""Workers of a new account, over all endpoints."""

_RELEASED = {
    "template.imageName": ("image",),
    "template.dockerArgs": ("args",),
    "template.containerDiskInGb": ("disk",),
    "template.env": ("env",),
    "template.ports": ("ports",),
    "template.containerRegistryAuthId": ("registry",),
    "gpuIds": ("gpu", "pools"),
    "excludedGpuIds": ("gpu", "excludedTypes"),
    "gpuCount": ("gpu", "count"),
    "allowedCudaVersions": ("gpu", "allowedCudaVersions"),
    "minCudaVersion": ("gpu", "minCudaVersion"),
    "instanceIds": ("cpu",),
    "locations": ("dataCenterIds",),
    "networkVolumeIds": ("networkVolumes",),
}
"""What a running worker does not take up: the platform's older names for it, and where the API has it."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_DEFAULTS: dict[str, Any] = {
    "args": "",
    "disk": 20,
    "env": {},
    "ports": [],
    "registry": None,
    "dataCenterIds": [],
    "networkVolumes": [],
    "timeout": 300_000,
    "flashboot": "OFF",
}
_WORKER_DEFAULTS = {"min": 0, "max": 3, "idleTimeout": 10}
_GPU_DEFAULTS: dict[str, Any] = {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None}


def new_id() -> str:
    """Return an id in the platform's form: 14 letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(14))


def timestamp(moment: datetime) -> str:
    """Return a time, which is in UTC, in the platform's form."""
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def create(sent: dict[str, Any], store: Store, moment: datetime) -> dict[str, Any]:
    """Return the new endpoint that a valid body asks for.

    Args:
        sent: the body.
        store: with the volumes and credentials that it may name.
        moment: of its creation.

    Raises:
        Problem: a rule of the resource is broken.
    """
    if "templateId" in sent:
        raise not_found(f"template {sent['templateId']!r}")
    endpoint = {"id": new_id(), **_DEFAULTS, **sent, "createdAt": timestamp(moment)}
    endpoint["workers"] = {**_WORKER_DEFAULTS, **sent.get("workers", {})}
    if "gpu" in sent:
        endpoint["gpu"] = {**_GPU_DEFAULTS, **sent["gpu"]}
    return _checked(endpoint, sent, store)


def change(endpoint: dict[str, Any], sent: dict[str, Any], store: Store) -> dict[str, Any]:
    """Return the endpoint with a valid PATCH applied: what is not sent stays.

    Args:
        endpoint: as it is; it is not changed.
        sent: the body.
        store: with the volumes and credentials that it may name.

    Raises:
        Problem: a rule of the resource is broken.
    """
    if "templateId" in sent:
        raise not_found(f"template {sent['templateId']!r}")
    if ("gpu" in sent and "cpu" in endpoint) or ("cpu" in sent and "gpu" in endpoint):
        raise bad_request("an endpoint cannot change between gpu and cpu")
    changed = {**endpoint, **sent}
    changed["workers"] = {**endpoint["workers"], **sent.get("workers", {})}
    if "gpu" in sent:
        gpu = {**endpoint["gpu"], **sent["gpu"]}
        if "pools" in sent["gpu"] and "excludedTypes" not in sent["gpu"]:
            gpu.pop("excludedTypes", None)
        gpu["minCudaVersion"] = gpu["minCudaVersion"] or None
        changed["gpu"] = gpu
    return _checked(changed, sent, store)


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what makes a new release: the changed fields that a running worker does not take up."""
    return [
        {"field": field, "old": _value(old, path), "new": _value(new, path)}
        for field, path in _RELEASED.items()
        if _value(old, path) != _value(new, path)
    ]


def _value(endpoint: Any, path: Iterable[str]) -> Any:
    for key in path:
        endpoint = (endpoint or {}).get(key)
    return endpoint


def require_quota(endpoints: Iterable[dict[str, Any]]) -> None:
    """Check the account's quota.

    Raises:
        Problem: all endpoints together may have too many workers.
    """
    total = sum(endpoint["workers"]["max"] for endpoint in endpoints)
    if total > WORKER_QUOTA:
        raise bad_request(
            f"workers.max of all endpoints would be {total}: the account's quota is {WORKER_QUOTA} workers"
        )


def _checked(endpoint: dict[str, Any], sent: dict[str, Any], store: Store) -> dict[str, Any]:
    if ("gpu" in endpoint) == ("cpu" in endpoint):
        raise bad_request("exactly one of gpu and cpu must be given")
    if "gpu" in endpoint:
        endpoint["gpu"] = _gpu(endpoint["gpu"])
    else:
        endpoint["cpu"] = [_cpu(item) for item in endpoint["cpu"]]
    _check_scaling(endpoint, sent)
    try:
        shlex.split(endpoint["args"])
    except ValueError as error:
        raise bad_request(f"args cannot be split into words: {error}") from error
    placement.require_place(endpoint, store.volumes)
    if endpoint["registry"] not in (None, *store.registries):
        raise not_found(f"registry {endpoint['registry']!r}")
    return endpoint


def _gpu(gpu: dict[str, Any]) -> dict[str, Any]:
    if "excludedTypes" in gpu:
        gpu = {**gpu, "excludedTypes": [name.strip() for name in gpu["excludedTypes"]]}
    for pool in gpu["pools"]:
        if pool not in catalogue.POOLS:
            raise bad_request(f"unknown GPU pool {pool!r}; pools are {', '.join(catalogue.POOLS)}")
    there = [name for pool in gpu["pools"] for name in catalogue.types_of(pool)]
    excluded = gpu.get("excludedTypes", [])
    for name in excluded:
        if name not in there:
            raise bad_request(f"excluded GPU type {name!r} is not in the pools {', '.join(gpu['pools'])}")
    if set(there) <= set(excluded):
        raise bad_request("excludedTypes leave no GPU type in the pools")
    if gpu["allowedCudaVersions"] and gpu["minCudaVersion"]:
        raise bad_request("allowedCudaVersions and minCudaVersion are mutually exclusive")
    return gpu


def _cpu(item: dict[str, Any]) -> dict[str, Any]:
    flavor = catalogue.cpu_flavor(item["id"])
    if flavor is None:
        there = ", ".join(flavor.id for flavor in catalogue.CPU_FLAVORS)
        raise bad_request(f"unknown CPU {item['id']!r}; there are {there}")
    count = item["vcpuCount"]
    if count & (count - 1) or count > catalogue.MOST_VCPUS:
        raise bad_request(f"vcpuCount {count} is not a power of two up to {catalogue.MOST_VCPUS}")
    return {**item, "memory": count * flavor.memory_gib_per_vcpu}


def _check_scaling(endpoint: dict[str, Any], sent: dict[str, Any]) -> None:
    workers, scaling = endpoint["workers"], endpoint["scaling"]
    if endpoint["type"] == "LOAD_BALANCER" and scaling["type"] != "REQUEST_COUNT":
        raise bad_request("load balancer endpoints scale by REQUEST_COUNT")
    if endpoint["type"] == "QUEUE" and scaling["type"] == "REQUEST_COUNT":
        if "idleTimeout" in sent.get("workers", {}):
            raise unprocessable(
                "$.workers: property 'idleTimeout' is not supported with REQUEST_COUNT scaling"
            )
        workers.pop("idleTimeout", None)
    else:
        workers.setdefault("idleTimeout", _WORKER_DEFAULTS["idleTimeout"])
    if workers["min"] > workers["max"]:
        raise bad_request(f"workers.min {workers['min']} is greater than workers.max {workers['max']}")
