"""The endpoint as a resource: defaults, rules, how a change is merged, what makes a new release."""

from __future__ import annotations

import secrets
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.runpod import catalogue
from sandbox.runpod.problems import bad_request, not_found, unprocessable

if TYPE_CHECKING:
    from collections.abc import Iterable

WORKER_QUOTA = 5
"""Workers of a new account, over all endpoints."""

_RELEASED = ("image", "args", "disk", "env", "ports", "registry", "gpu", "cpu")
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


def now() -> str:
    """Return the time in the platform's form."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def create(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the new endpoint that a valid body asks for.

    Raises:
        Problem: a rule of the resource is broken.
    """
    if "templateId" in sent:
        raise not_found(f"template {sent['templateId']!r}")
    endpoint = {"id": new_id(), **_DEFAULTS, **sent, "createdAt": now()}
    endpoint["workers"] = {**_WORKER_DEFAULTS, **sent.get("workers", {})}
    if "gpu" in sent:
        endpoint["gpu"] = {**_GPU_DEFAULTS, **sent["gpu"]}
    return _checked(endpoint, sent)


def change(endpoint: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint with a valid PATCH applied: what is not sent stays.

    Raises:
        Problem: a rule of the resource is broken.
    """
    if "templateId" in sent:
        raise not_found(f"template {sent['templateId']!r}")
    if ("gpu" in sent and "cpu" in endpoint) or ("cpu" in sent and "gpu" in endpoint):
        raise bad_request("an endpoint cannot change between gpu and cpu")
    if "cpu" in sent and {item["id"] for item in sent["cpu"]} != {item["id"] for item in endpoint["cpu"]}:
        raise bad_request("the CPU family of an endpoint cannot change")
    changed = {**endpoint, **sent}
    changed["workers"] = {**endpoint["workers"], **sent.get("workers", {})}
    if "gpu" in sent:
        gpu = {**endpoint["gpu"], **sent["gpu"]}
        if "pools" in sent["gpu"] and "excludedTypes" not in sent["gpu"]:
            gpu.pop("excludedTypes", None)
        gpu["minCudaVersion"] = gpu["minCudaVersion"] or None
        changed["gpu"] = gpu
    return _checked(changed, sent)


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what makes a new release: the changed fields that a running worker does not take up."""
    return [
        {"field": field, "old": old.get(field), "new": new.get(field)}
        for field in _RELEASED
        if old.get(field) != new.get(field)
    ]


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


def _checked(endpoint: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    if ("gpu" in endpoint) == ("cpu" in endpoint):
        raise bad_request("exactly one of gpu and cpu must be given")
    if "gpu" in endpoint:
        _check_gpu(endpoint["gpu"])
    else:
        endpoint["cpu"] = [_cpu(item) for item in endpoint["cpu"]]
    _check_scaling(endpoint, sent)
    try:
        shlex.split(endpoint["args"])
    except ValueError as error:
        raise bad_request(f"args cannot be split into words: {error}") from error
    for center in endpoint["dataCenterIds"]:
        if center not in catalogue.DATA_CENTERS:
            raise bad_request(f"unknown data center {center!r}")
    for volume in endpoint["networkVolumes"]:
        raise not_found(f"network volume {volume!r}")
    if endpoint["registry"] is not None:
        raise not_found(f"registry {endpoint['registry']!r}")
    return endpoint


def _check_gpu(gpu: dict[str, Any]) -> None:
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


def _cpu(item: dict[str, Any]) -> dict[str, Any]:
    if item["id"] not in catalogue.CPU_FAMILIES:
        raise bad_request(f"unknown CPU {item['id']!r}; there are {', '.join(catalogue.CPU_FAMILIES)}")
    count = item["vcpuCount"]
    if count & (count - 1):
        raise bad_request(f"vcpuCount {count} is not a power of two")
    return {**item, "memory": count * catalogue.CPU_MEMORY_GIB_PER_VCPU[item["id"][-1]]}


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
