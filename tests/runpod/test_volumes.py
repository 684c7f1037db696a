"""Network volumes from outside: their rules, and what they mean for the endpoints that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import Platform, body, start_platform

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = {"name": "weights", "size": 50, "dataCenter": "EU-RO-1"}


def _make(platform: Platform, **changes: Any) -> dict[str, Any]:
    response = platform.api.post("/network-volumes", json={**WEIGHTS, **changes})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_the_whole_life_of_a_volume(platform: Platform) -> None:
    made = _make(platform)
    url = f"/network-volumes/{made['id']}"
    assert made == {"id": made["id"], **WEIGHTS, "type": "STANDARD"}
    assert platform.api.get("/network-volumes").json() == {"networkVolumes": [made]}
    grown = platform.api.patch(url, json={"size": 60})
    assert (grown.status_code, grown.json()) == (200, {**made, "size": 60})
    assert platform.api.patch(url, json={"name": "other", "size": 60}).json()["name"] == "other"
    assert platform.api.get(url).json() == {**made, "name": "other", "size": 60}
    assert platform.api.delete(url).status_code == 204
    assert [
        platform.api.request(method, url, json={"size": 70}).status_code for method in ("GET", "PATCH")
    ] == [
        404,
        404,
    ]
    assert platform.api.delete(url).status_code == 404


def test_names_are_not_unique_and_the_type_is_the_one_asked_for(platform: Platform) -> None:
    first, second = _make(platform), _make(platform, type="HIGH_PERFORMANCE")
    assert first["id"] != second["id"]
    assert second["type"] == "HIGH_PERFORMANCE"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"size": 9}, 422, "$.size: "),
        ({"size": 4097}, 422, "$.size: "),
        ({"size": "50"}, 422, "$.size: "),
        ({"name": ""}, 422, "$.name: "),
        ({"dataCenterId": "EU-RO-1"}, 422, "$: additional properties 'dataCenterId' not allowed"),
        ({"type": "FAST"}, 422, "$.type: "),
        ({"dataCenter": "US-TX-1"}, 400, "valid are CA-MTL-1"),
        ({"dataCenter": "MOON-1"}, 400, "data center 'MOON-1' has no"),
        ({"dataCenter": "EU-SE-1", "type": "HIGH_PERFORMANCE"}, 400, "valid are CA-MTL-3"),
    ],
)
def test_a_volume_that_cannot_be_is_refused(
    platform: Platform, changes: dict[str, Any], status: int, words: str
) -> None:
    response = platform.api.post("/network-volumes", json={**WEIGHTS, **changes})
    assert (response.status_code, words in response.text) == (status, True), response.text
    assert platform.api.get("/network-volumes").json() == {"networkVolumes": []}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 422),
        ({"size": 49}, 400),
        ({"dataCenter": "US-KS-2"}, 422),
        ({"type": "HIGH_PERFORMANCE"}, 422),
        ({"name": None}, 422),
    ],
)
def test_a_volume_only_grows(platform: Platform, change: dict[str, Any], status: int) -> None:
    made = _make(platform)
    url = f"/network-volumes/{made['id']}"
    assert platform.api.patch(url, json=change).status_code == status
    assert platform.api.get(url).json() == made


def test_an_endpoint_takes_one_volume_for_each_of_its_data_centers(platform: Platform) -> None:
    here, there, also_here = _make(platform), _make(platform, dataCenter="US-KS-2"), _make(platform)

    def refusal(volumes: list[str], centers: list[str]) -> tuple[int, str]:
        document = body(networkVolumes=volumes, dataCenterIds=centers)
        response = platform.api.post("/serverless", json=document)
        return response.status_code, response.json()["detail"]

    assert refusal([here["id"], also_here["id"]], []) == (
        400,
        "network volumes: more than one is in data center EU-RO-1",
    )
    assert refusal([there["id"]], ["EU-RO-1"]) == (
        400,
        f"network volume '{there['id']}' is in data center US-KS-2, which dataCenterIds leave out",
    )
    made = platform.create(networkVolumes=[here["id"], there["id"]], dataCenterIds=["US-KS-2", "EU-RO-1"])
    url = f"/serverless/{made['id']}"
    assert platform.api.patch(url, json={"dataCenterIds": ["EU-RO-1"]}).status_code == 400
    changed = platform.api.patch(url, json={"dataCenterIds": ["EU-RO-1"], "networkVolumes": [here["id"]]})
    assert changed.status_code == 200
    diff = platform.api.get(f"{url}/releases").json()["releases"][0]["diff"]
    assert [entry["field"] for entry in diff] == ["locations", "networkVolumeIds"]


def test_a_volume_in_use_stays_until_the_endpoint_lets_go_of_it(platform: Platform) -> None:
    volume = _make(platform)
    endpoint = platform.create(networkVolumes=[volume["id"]])
    url = f"/network-volumes/{volume['id']}"
    refused = platform.api.delete(url)
    assert refused.status_code == 400
    assert endpoint["id"] in refused.json()["detail"]
    platform.api.patch(f"/serverless/{endpoint['id']}", json={"networkVolumes": []})
    assert platform.api.delete(url).status_code == 204


def test_volumes_are_there_after_a_restart(own_platform: Platform, tmp_path: Path) -> None:
    made = _make(own_platform)
    own_platform.cloud.stop()
    again = start_platform(tmp_path / "runpod")
    try:
        assert again.api.get("/network-volumes").json() == {"networkVolumes": [made]}
    finally:
        again.cloud.stop()
