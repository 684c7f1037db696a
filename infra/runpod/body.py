"""An endpoint's properties as REST v2 has them: checked offline, compared, and as request bodies.

Pure functions over plain dicts, the form in which a dynamic provider gets them: numbers may arrive as
floats, a value that is not known yet as `UNKNOWN` or `Unknown`, an absent one as None or not at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARKER_VARIABLE: Final = "BERTH_RESOURCE"
"""The environment variable that says whose an endpoint is. Changing it makes every endpoint a stranger."""

FIELDS: Final = (
    "name",
    "image",
    "args",
    "disk",
    "env",
    "ports",
    "registry",
    "gpu",
    "cpu",
    "workers",
    "scaling",
    "dataCenterIds",
    "networkVolumes",
    "flashboot",
    "timeout",
)
"""What PATCH can change, in the API's names; `type` is fixed for life."""

_PORT = re.compile(r"^\d{1,5}/(http|tcp)$")
_CUDA = re.compile(r"^\d+\.\d+$")
_FLASHBOOT = ("OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT")
_TIMEOUT_MS = (5_000, 7 * 24 * 3_600_000)
_EMPTY: dict[str, Any] = {"args": "", "env": {}, "ports": [], "dataCenterIds": [], "networkVolumes": []}
_GPU_DEFAULTS: dict[str, Any] = {
    "pools": [],
    "excludedTypes": [],
    "count": 1,
    "minCudaVersion": None,
    "allowedCudaVersions": [],
}

Problems = list[tuple[str, str]]


def is_unknown(value: Any) -> bool:
    """Say whether a value is not known before the deployment runs, in either form that the SDK hands over."""
    return isinstance(value, Unknown) or bool(value == UNKNOWN)


def has_unknown(value: Any) -> bool:
    """Say whether a value, or one inside it, is not known before the deployment runs."""
    if isinstance(value, dict):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_unknown(item) for item in value)
    return is_unknown(value)


def shape(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in the API's form, each list in its own order.

    Args:
        properties: inputs of the program, what is in state, or an endpoint as the API returns it.
    """
    found: dict[str, Any] = {"type": properties.get("type"), **{key: properties.get(key) for key in FIELDS}}
    for key, empty in _EMPTY.items():
        if found[key] is None:
            found[key] = empty
    if isinstance(found["gpu"], dict):
        gpu = {**_GPU_DEFAULTS, **{key: value for key, value in found["gpu"].items() if value is not None}}
        found["gpu"] = {**gpu, "minCudaVersion": gpu["minCudaVersion"] or None}
    if isinstance(found["cpu"], (list, tuple)):
        found["cpu"] = [{"id": item.get("id"), "vcpuCount": item.get("vcpuCount")} for item in found["cpu"]]
    for key in ("workers", "scaling"):
        if isinstance(found[key], dict):
            found[key] = {name: value for name, value in found[key].items() if value is not None}
    shaped: dict[str, Any] = _whole_numbers(found)
    return shaped


def comparable(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields so that equal settings compare equal: the API orders lists as it likes."""
    found = shape(properties)
    for holder in (found, found["gpu"]):
        if isinstance(holder, dict):
            for key, value in holder.items():
                if isinstance(value, list):
                    holder[key] = sorted(value, key=str)
    return found


def fixed_differences(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs that an endpoint has for life: its type, its kind and family of machines.

    Args:
        current: what the endpoint has, in any form that `shape` takes.
        wanted: what it shall have.
    """
    found = ["type"] if current.get("type") != wanted.get("type") else []
    if bool(current.get("gpu")) != bool(wanted.get("gpu")):
        return [*found, "gpu", "cpu"]
    families = [{item.get("id") for item in properties.get("cpu") or ()} for properties in (current, wanted)]
    return found if families[0] == families[1] else [*found, "cpu"]


def _whole_numbers(value: Any) -> Any:
    """Turn 3.0 into 3: Pulumi's numbers are all floats, the API's integers are not."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def create_body(properties: Mapping[str, Any], marker: str) -> dict[str, Any]:
    """Return the body of `POST /serverless`: all is said, for defaults differ by the door to RunPod."""
    wanted = shape(properties)
    body = {key: value for key, value in wanted.items() if value is not None}
    body["env"] = {**wanted["env"], MARKER_VARIABLE: marker}
    if wanted["gpu"]:
        body["gpu"] = {key: value for key, value in wanted["gpu"].items() if value}
    return body


def patch_body(
    current: Mapping[str, Any], properties: Mapping[str, Any], marker: str, current_marker: str
) -> dict[str, Any]:
    """Return the body of `PATCH /serverless/{id}`: the fields that differ, each with all that must be resent.

    Args:
        current: what the endpoint has, in any form that `shape` takes.
        properties: what it shall have.
        marker: the value that `MARKER_VARIABLE` shall have.
        current_marker: the value that it has; empty when it is gone.
    """
    old, new, sent = comparable(current), comparable(properties), shape(properties)
    body = {key: sent[key] for key in FIELDS if old[key] != new[key]}
    if "env" in body or marker != current_marker:
        body["env"] = {**sent["env"], MARKER_VARIABLE: marker}  # PATCH replaces the whole map
    if body.get("gpu"):
        body["gpu"] = _gpu_patch(old["gpu"] or {}, sent["gpu"])
    # An absent kind of machine cannot be cleared, it is the other kind that is sent; `registry` can be null.
    return {key: value for key, value in body.items() if value is not None or key == "registry"}


def _gpu_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"pools": new["pools"], "count": new["count"]}  # pools alone clear the exclusions
    if new["excludedTypes"]:
        body["excludedTypes"] = new["excludedTypes"]
    if new["minCudaVersion"] or old.get("minCudaVersion"):
        body["minCudaVersion"] = new["minCudaVersion"] or ""
    if new["allowedCudaVersions"] or old.get("allowedCudaVersions"):
        body["allowedCudaVersions"] = new["allowedCudaVersions"]
    return body


def problems(properties: Mapping[str, Any]) -> Problems:
    """Return (property, reason) for everything RunPod would refuse, as far as values are known."""
    found: Problems = []

    def known(key: str, holder: Mapping[str, Any] = properties) -> Any:
        value = holder.get(key)
        return None if has_unknown(value) else value

    def require(key: str, allowed: str, test: Callable[[Any], bool], holder: str = "") -> None:
        values = known(holder) if holder else properties
        value = known(key, values) if isinstance(values, dict) else None
        if value is not None and not test(value):
            found.append((f"{holder}.{key}" if holder else key, f"= {value!r} must be {allowed}"))

    # The platform's defaults are not relied on: what is not said would differ from what is there for ever.
    for key in ("name", "type", "image", "disk", "scaling", "workers", "flashboot", "timeout"):
        if properties.get(key) in (None, "", {}):
            found.append((key, "is missing"))
    require("type", "QUEUE or LOAD_BALANCER", ("QUEUE", "LOAD_BALANCER").__contains__)
    require("flashboot", " or ".join(_FLASHBOOT), _FLASHBOOT.__contains__)
    require("disk", "a whole number of GB, 1 or more", lambda value: is_whole(value, 1))
    require("timeout", "milliseconds, 5000 to 604800000", lambda value: is_whole(value, *_TIMEOUT_MS))
    require("ports", 'a list like ["8000/http"]', lambda value: all(_PORT.match(str(port)) for port in value))
    require("min", "a whole number, 0 or more", lambda value: is_whole(value, 0), "workers")
    require("max", "a whole number, 0 or more", lambda value: is_whole(value, 0), "workers")
    require("idleTimeout", "seconds, 1 to 3600", lambda value: is_whole(value, 1, 3600), "workers")
    require("count", "a whole number, 1 or more", lambda value: is_whole(value, 1), "gpu")
    require("minCudaVersion", 'like "12.8"', lambda value: bool(_CUDA.match(str(value))), "gpu")
    found += _environment_problems(known("env"))
    found += _machine_problems(properties)
    found += _scaling_problems(known("type"), known("workers") or {}, known("scaling") or {})
    found += _door_problems(known("type"), properties.get("env"), known("ports"))
    return found


def is_whole(value: Any, least: int, most: int | None = None) -> bool:
    """Say whether a value is a whole number, as an int or as a float, within bounds."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
    return number and value >= least and (most is None or value <= most)


def _environment_problems(env: Any) -> Problems:
    if env is None:
        return []
    if not isinstance(env, dict):
        return [("env", "must be a map of texts")]
    found = [(f"env.{key}", "must be a text") for key, value in env.items() if not isinstance(value, str)]
    if MARKER_VARIABLE in env:
        found.append((f"env.{MARKER_VARIABLE}", "is set by berth itself"))
    return found


def _machine_problems(properties: Mapping[str, Any]) -> Problems:
    gpu, cpu = properties.get("gpu"), properties.get("cpu")
    if is_unknown(gpu) or is_unknown(cpu):
        return []
    if bool(gpu) == bool(cpu):
        return [("gpu", "or cpu: exactly one of them must be given")]
    if not gpu:
        return []
    found: Problems = []
    if not gpu.get("pools"):
        found.append(("gpu.pools", "is missing: at least one GPU pool"))
    if gpu.get("minCudaVersion") and gpu.get("allowedCudaVersions"):
        found.append(("gpu.minCudaVersion", "and gpu.allowedCudaVersions exclude each other"))
    return found


def _scaling_problems(kind: Any, workers: Mapping[str, Any], scaling: Mapping[str, Any]) -> Problems:
    found: Problems = []
    rule = scaling.get("type")
    without_idle = kind == "QUEUE" and rule == "REQUEST_COUNT"
    least, most = workers.get("min"), workers.get("max")
    for key in ("min", "max", *(() if without_idle else ("idleTimeout",))):
        if workers and workers.get(key) is None:
            found.append((f"workers.{key}", "is missing"))
    if least is not None and most is not None and least > most:
        found.append(("workers.min", f"= {least:g} must be workers.max ({most:g}) or less"))
    if kind == "LOAD_BALANCER" and rule not in (None, "REQUEST_COUNT"):
        found.append(("scaling.type", f"= {rule!r} must be REQUEST_COUNT: type LOAD_BALANCER scales by it"))
    if without_idle and workers.get("idleTimeout") is not None:
        found.append(("workers.idleTimeout", "does not go with type QUEUE and scaling by REQUEST_COUNT"))
    if rule == "REQUEST_COUNT" and not is_whole(scaling.get("requestCount"), 1):
        found.append(("scaling.requestCount", "must be a whole number, 1 or more"))
    if rule == "QUEUE_DELAY" and not (scaling.get("queueDelay") or 0) >= 0.5:
        found.append(("scaling.queueDelay", "must be seconds, 0.5 or more"))
    return found


def _door_problems(kind: Any, env: Any, ports: Any) -> Problems:
    """Return what would leave a load balancer without a worker to reach."""
    if kind != "LOAD_BALANCER" or not isinstance(env, dict) or ports is None:
        return []
    port = env.get("PORT")
    if port is None:
        return [("env.PORT", "is missing: the load balancer sends requests there")]
    if has_unknown(port) or f"{port}/http" in ports:
        return []
    return [("ports", f'must have "{port}/http", the PORT of env: the load balancer sends requests there')]
