"""Where an endpoint's workers can run: its machines, CUDA versions, data centers and volumes, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.runpod import catalogue
from sandbox.runpod.problems import bad_request, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping


def require_place(endpoint: dict[str, Any], volumes: Mapping[str, dict[str, Any]]) -> None:
    """Check that there is a data center for the workers of an endpoint whose machines are known to exist.

    Args:
        endpoint: as the API shows it.
        volumes: the account's, by id.

    Raises:
        Problem: a data center or volume does not exist, they contradict one another, or nothing is left.
    """
    for center_id in endpoint["dataCenterIds"]:
        if catalogue.data_center(center_id) is None:
            raise bad_request(f"unknown data center {center_id!r}")
    _check_volumes(endpoint, volumes)
    if not any(_fits(endpoint, center) for center in _centers(endpoint, volumes)):
        raise bad_request(
            "There are no longer any instances available with the requested specifications. "
            "Please refresh and try again."
        )


def center_of(endpoint: dict[str, Any], volumes: Mapping[str, dict[str, Any]], gpu_type: str | None) -> str:
    """Return the data center of an endpoint's workers, which has place for them.

    Args:
        endpoint: as the API shows it.
        volumes: the account's, by id.
        gpu_type: what the workers run on; None for CPUs.
    """
    gpu = catalogue.gpu_type(gpu_type) if gpu_type else None
    centers = [center for center in _centers(endpoint, volumes) if _fits(endpoint, center)]
    return next((center.id for center in centers if gpu is None or gpu.pool in center.pools), centers[0].id)


def _centers(endpoint: dict[str, Any], volumes: Mapping[str, dict[str, Any]]) -> list[catalogue.DataCenter]:
    """Return the data centers that an endpoint's workers may be in, whether or not they fit there."""
    ids = [volumes[volume_id]["dataCenter"] for volume_id in endpoint["networkVolumes"]]
    ids = ids or endpoint["dataCenterIds"]
    return [center for center in catalogue.DATA_CENTERS if center.id in ids or not ids]


def _check_volumes(endpoint: dict[str, Any], volumes: Mapping[str, dict[str, Any]]) -> None:
    centers: list[str] = []
    for volume_id in endpoint["networkVolumes"]:
        if volume_id not in volumes:
            raise not_found(f"network volume {volume_id!r}")
        center = volumes[volume_id]["dataCenter"]
        if center in centers:
            raise bad_request(f"network volumes: more than one is in data center {center}")
        if endpoint["dataCenterIds"] and center not in endpoint["dataCenterIds"]:
            raise bad_request(
                f"network volume {volume_id!r} is in data center {center}, which dataCenterIds leave out"
            )
        centers.append(center)


def _fits(endpoint: dict[str, Any], center: catalogue.DataCenter) -> bool:
    if "cpu" in endpoint:
        return center.has_cpus
    gpu = endpoint["gpu"]
    return any(
        gpu["count"] <= catalogue.MOST_GPUS and gpu_type.pool in center.pools and _takes_cuda(gpu, gpu_type)
        for gpu_type in catalogue.GPU_TYPES
        if gpu_type.pool in gpu["pools"] and gpu_type.id not in gpu.get("excludedTypes", ())
    )


def _takes_cuda(gpu: dict[str, Any], gpu_type: catalogue.GpuType) -> bool:
    allowed, floor = gpu["allowedCudaVersions"], gpu["minCudaVersion"]
    return any(
        version in allowed if allowed else not floor or catalogue.is_at_least(version, floor)
        for version in gpu_type.cuda_versions
    )
