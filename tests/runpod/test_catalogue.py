"""The catalogue from outside, and that an endpoint can have what the catalogue lists and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import body

if TYPE_CHECKING:
    from tests.runpod.conftest import Platform

AVAILABLE = "include=AVAILABILITY&product=SERVERLESS"
NO_INSTANCES = (
    "There are no longer any instances available with the requested specifications. "
    "Please refresh and try again."
)


def _get(platform: Platform, path: str) -> Any:
    response = platform.api.get(f"/catalog/{path}")
    assert response.status_code == 200, response.text
    return response.json()


def test_gpus_are_listed_with_pool_price_and_on_demand_their_stock(platform: Platform) -> None:
    listed = {gpu["id"]: gpu for gpu in _get(platform, "gpus")["gpus"]}
    assert listed["NVIDIA GeForce RTX 4090"]["name"] == "RTX 4090"
    assert listed["NVIDIA GeForce RTX 4090"]["pool"] == "ADA_24"
    assert listed["NVIDIA H200"]["price"]["serverless"] == pytest.approx(0.00155 * 3600)
    assert all("availability" not in gpu for gpu in listed.values())
    blackwell = _get(platform, f"gpus/NVIDIA B200?{AVAILABLE}")
    assert blackwell["availability"] == "HIGH"
    assert {"id": "EU-RO-1", "name": "Romania 1", "availability": "HIGH"} in blackwell["dataCenters"]
    assert "US-TX-1" not in [center["id"] for center in blackwell["dataCenters"]]
    assert blackwell["cudaVersions"][0] == {"version": "12.8", "available": True}
    assert platform.api.get("/catalog/gpus/NVIDIA 8800").status_code == 404


def test_filters_narrow_the_stock(platform: Platform) -> None:
    floor = _get(platform, f"gpus/NVIDIA L4?{AVAILABLE}&minCudaVersion=12.9")
    assert [item["version"] for item in floor["cudaVersions"]] == ["12.9", "13.0"]
    exact = _get(platform, f"gpus/NVIDIA B200?{AVAILABLE}&cudaVersions=12.4")
    assert (exact["availability"], "dataCenters" in exact) == ("NONE", False)
    assert _get(platform, f"gpus/NVIDIA L4?{AVAILABLE}&cloud=COMMUNITY")["availability"] == "NONE"
    assert _get(platform, f"gpus/NVIDIA L4?{AVAILABLE}&count=9")["availability"] == "NONE"
    czech = {gpu["pool"] for gpu in _get(platform, f"gpus?{AVAILABLE}&countryCodes=CZ,FR")["gpus"]}
    assert "AMPERE_24" in czech
    assert "HOPPER_141" not in czech
    assert _get(platform, f"gpus/NVIDIA H200?{AVAILABLE}&countryCodes=CZ")["availability"] == "NONE"
    assert _get(platform, "cpus/cpu5c?include=AVAILABILITY&product=SERVERLESS&vcpuCount=64") == {
        **_get(platform, "cpus/cpu5c"),
        "availability": "NONE",
    }


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("gpus?include=AVAILABILITY", 400),
        ("gpus?product=SERVERLESS", 400),
        ("gpus?countryCodes=FR", 400),
        ("gpus?count=1", 400),
        (f"gpus?{AVAILABLE}&cudaVersions=12.8&minCudaVersion=12", 400),
        (f"gpus?{AVAILABLE}&cudaVersions=12", 422),
        (f"gpus?{AVAILABLE}&countryCodes=fr", 422),
        (f"gpus?{AVAILABLE}&count=0", 422),
        ("gpus?include=STOCK", 422),
        ("cpus?include=AVAILABILITY&product=CLUSTER", 422),
        ("cpus?include=AVAILABILITY&product=POD&vcpuCount=6", 400),
        ("datacenters?regions=MARS", 422),
        ("datacenters?globalNetwork=1", 422),
        ("templates?source=mine", 422),
    ],
)
def test_a_query_that_cannot_be_is_refused(platform: Platform, path: str, status: int) -> None:
    response = platform.api.get(f"/catalog/{path}")
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


def test_unknown_parameters_are_ignored(platform: Platform) -> None:
    assert _get(platform, "templates?pageSize=3") == {"templates": []}


def test_data_centers_are_found_by_every_filter(platform: Platform) -> None:
    fast = _get(platform, "datacenters?networkVolumeTypes=STANDARD,HIGH_PERFORMANCE&regions=EUROPE")
    assert [center["id"] for center in fast["dataCenters"]] == ["EU-RO-1", "EUR-IS-1"]
    assert _get(platform, "datacenters?globalNetwork=false") == {"dataCenters": []}
    no_cpus = _get(platform, "datacenters/US-WA-1?include=GPU_AVAILABILITY,CPU_AVAILABILITY")
    assert "cpuAvailability" not in no_cpus
    assert {gpu["id"] for gpu in no_cpus["gpuAvailability"]} >= {"NVIDIA H200", "NVIDIA B200"}
    assert "gpuAvailability" not in _get(platform, "datacenters/US-WA-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": {"pools": ["HOPPER_141"]}, "dataCenterIds": ["US-TX-1"]},
        {"gpu": {"pools": ["BLACKWELL_180"], "allowedCudaVersions": ["12.4"]}},
        {"gpu": {"pools": ["AMPERE_24"], "minCudaVersion": "13.1"}},
        {"gpu": {"pools": ["AMPERE_24"], "count": 9}},
        {"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 2}], "dataCenterIds": ["US-WA-1"]},
    ],
)
def test_an_endpoint_that_fits_nowhere_is_refused_in_the_platforms_words(
    platform: Platform, changes: dict[str, Any]
) -> None:
    response = platform.api.post("/serverless", json=body(**changes))
    assert (response.status_code, response.json()["detail"]) == (400, NO_INSTANCES)


def test_an_endpoint_fits_where_one_of_its_pools_does(platform: Platform) -> None:
    gpu = {"pools": ["HOPPER_141", "AMPERE_24"], "excludedTypes": [" NVIDIA L4"], "minCudaVersion": "12.9"}
    made = platform.create(gpu=gpu, dataCenterIds=["US-TX-1"])
    assert made["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    made = platform.create(gpu=None, cpu=[{"id": "cpu5g", "vcpuCount": 4}])
    assert made["cpu"] == [{"id": "cpu5g", "vcpuCount": 4, "memory": 16}]
    changed = platform.api.patch(f"/serverless/{made['id']}", json={"cpu": [{"id": "cpu3c", "vcpuCount": 2}]})
    assert changed.json()["cpu"] == [{"id": "cpu3c", "vcpuCount": 2, "memory": 4}]
