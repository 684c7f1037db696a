"""RunPod: the key, the workers that the account may have, and the GPUs of the pools where they may stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from infra.runpod.api import ForbiddenError, RunpodClient, RunpodError, UnauthorizedError
from infra.runpod.body import MARKER_VARIABLE
from infra.runpod.connection import KEY_VARIABLE
from infra.runpod.objects import endpoints
from infra.settings import PROJECT
from infra.settings.runpod import RunpodSettings
from ops.preflight.findings import Check, Finding, no, unknown, yes

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Settings

_KEYS = "https://console.runpod.io/user/settings, then export RUNPOD_API_KEY"
_SERVERLESS = "https://console.runpod.io/serverless"
# What every account has; more comes with its balance, and no API tells how much.
# Source: RunPod's documentation, "Workers".
_LEAST_QUOTA = 5


def checks(settings: Settings, url: str, key: str) -> list[Check]:
    """Return the questions to RunPod.

    Args:
        settings: the stack's.
        url: the base URL of REST v2.
        key: its API key; empty if there is none.
    """
    wanted = settings.require_runpod()
    try:
        client = RunpodClient(url, key) if key.strip() else None
    except ValueError as error:
        wrong = no(str(error), _KEYS)
        return [Check("RunPod", "key", lambda: wrong)]
    if client is None:
        missing = no(f"{KEY_VARIABLE} is not in the environment", _KEYS)
        return [Check("RunPod", "key", lambda: missing)]
    found = []

    def add(name: str, question: Callable[[], Finding]) -> None:
        found.append(Check("RunPod", name, lambda: _ask(question)))

    add("key", lambda: _key(client))
    add("worker quota", lambda: _quota(client, settings))
    add("GPUs", lambda: _gpus(client, settings))
    add("CUDA", lambda: _cuda(client, settings))
    if wanted.placement:
        add("data centers", lambda: _data_centers(client, settings))
    return found


def _ask(question: Callable[[], Finding]) -> Finding:
    try:
        return question()
    except (UnauthorizedError, ForbiddenError) as error:
        return no(str(error), _KEYS)
    except RunpodError as error:
        return unknown(str(error), "run the preflight again; https://uptime.runpod.io says what RunPod has")


def _key(client: RunpodClient) -> Finding:
    client.get("/serverless", action="list the endpoints")
    return yes("RunPod takes it")


def _quota(client: RunpodClient, settings: Settings) -> Finding:
    wanted = settings.require_runpod().workers_max
    ours = f"{PROJECT}/{settings.stack}/"
    mine = others = 0
    for item in endpoints(client, action="list the endpoints"):
        if (item.get("env") or {}).get(MARKER_VARIABLE, "").startswith(ours):
            mine += item["workers"]["max"]
        else:
            others += item["workers"]["max"]
    total = others + wanted
    # What the account has now, it may have.
    proven = max(_LEAST_QUOTA, others + mine)
    seen = f"workers_max is {wanted}, and other endpoints may have {others}: {total} of {proven} at least"
    if total <= proven:
        return yes(seen)
    return unknown(
        f"{seen}; the quota grows with the balance (10 from $100, 20 from $200), and no API tells it",
        f"see whether {_SERVERLESS} allows {total}; else lower workers_max here or of another endpoint",
    )


def _stock(client: RunpodClient, runpod: RunpodSettings, count: int) -> list[dict[str, Any]]:
    """Return the GPU types of the pools with what is to be had of them now, on hosts with the CUDA asked."""
    query = {"include": "AVAILABILITY", "product": "SERVERLESS", "count": count}
    if runpod.allowed_cuda_versions:
        query["cudaVersions"] = ",".join(runpod.allowed_cuda_versions)
    else:
        query["minCudaVersion"] = runpod.min_cuda_version
    answer = client.get(f"/catalog/gpus?{urlencode(query)}", action="read what GPUs there are")
    return [
        gpu
        for gpu in answer["gpus"]
        if gpu.get("pool") in runpod.gpu_pools and gpu["id"] not in runpod.excluded_gpu_types
    ]


def _there(gpu: dict[str, Any], placement: tuple[str, ...]) -> list[str]:
    """Return the data centers, of those that workers may run in, that have a GPU type now."""
    return [
        center["id"]
        for center in gpu.get("dataCenters") or ()
        if center.get("availability") != "NONE" and (not placement or center["id"] in placement)
    ]


def _gpus(client: RunpodClient, settings: Settings) -> Finding:
    runpod = settings.require_runpod()
    count = runpod.gpu_count or settings.serving.tensor_parallel_size
    there = {gpu["name"]: _there(gpu, runpod.placement) for gpu in _stock(client, runpod, count)}
    where = f" in {', '.join(runpod.placement)}" if runpod.placement else ""
    found = [f"{name} in {len(centers)} data centers" for name, centers in there.items() if centers]
    if found:
        return yes(f"{count} at once{where}: {', '.join(found)}")
    return no(
        f"no {' or '.join(runpod.gpu_pools)} is to be had{where} now, {count} at once, with the CUDA asked",
        f"name more berth:runpod.gpu_pools or data_center_ids in {settings.file}: {_SERVERLESS}",
    )


def _cuda(client: RunpodClient, settings: Settings) -> Finding:
    runpod = settings.require_runpod()
    floor = RunpodSettings.model_fields["min_cuda_version"].default
    lowest = min(runpod.allowed_cuda_versions or (runpod.min_cuda_version,), key=_numbers)
    if settings.server is None and _numbers(lowest) < _numbers(floor):
        return no(
            f"workers may come with CUDA {lowest}, and vLLM's image is built for {floor}: their driver may"
            " not run it",
            f"set berth:runpod.min_cuda_version to {floor} in {settings.file}",
        )
    versions = sorted(
        {
            item["version"]
            for gpu in _stock(client, runpod, 1)
            for item in gpu.get("cudaVersions") or ()
            if item["available"]
        },
        key=_numbers,
    )
    asked = ", ".join(runpod.allowed_cuda_versions) or f"{runpod.min_cuda_version} or newer"
    if versions:
        return yes(f"asked: {asked}; hosts of the pools have {', '.join(versions)}")
    return no(
        f"asked: {asked}; no host of {', '.join(runpod.gpu_pools)} has it now",
        f"name more berth:runpod.gpu_pools in {settings.file}",
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _data_centers(client: RunpodClient, settings: Settings) -> Finding:
    runpod = settings.require_runpod()
    listed = client.list_all("/catalog/datacenters", "dataCenters", action="read the data centers")
    types = {center["id"]: center.get("networkVolumeTypes") or () for center in listed}
    unknown_ones = [id_ for id_ in runpod.placement if id_ not in types]
    if unknown_ones:
        return no(
            f"there is no data center {', '.join(unknown_ones)}",
            f"berth:runpod.data_center_ids in {settings.file}: of {', '.join(sorted(types))}",
        )
    for volume in runpod.volumes:
        if volume.type not in types[volume.data_center_id]:
            having = sorted(id_ for id_, kinds in types.items() if volume.type in kinds)
            return no(
                f"{volume.data_center_id} has no {volume.type} volumes",
                f"berth:runpod.volumes in {settings.file}: {', '.join(having)} have",
            )
    return yes(", ".join(runpod.placement))
