"""Registry credentials from outside: what is shown of them, what is kept, what deleting one does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runpod.conftest import TOKEN, Platform, body, start_platform

if TYPE_CHECKING:
    from pathlib import Path

CREDENTIAL = {"name": "ours", "username": "AWS", "password": TOKEN}


def _make(platform: Platform, **changes: Any) -> dict[str, Any]:
    response = platform.api.post("/registries", json={**CREDENTIAL, **changes})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_a_credential_is_written_and_never_shown(own_platform: Platform, tmp_path: Path) -> None:
    made = _make(own_platform)
    url = f"/registries/{made['id']}"
    assert made == {"id": made["id"], "name": "ours"}
    assert own_platform.api.get(url).json() == made
    assert own_platform.api.get("/registries").json() == {"registries": [made]}
    files = [path for path in (tmp_path / "runpod").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert own_platform.api.patch(url, json={"password": "new"}).status_code == 405
    assert [own_platform.api.delete(url).status_code for _ in range(2)] == [204, 404]
    assert own_platform.api.get(url).status_code == 404


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"password": ""}, "$.password: "),
        ({"password": ["hidden"]}, "$.password: "),
        ({"username": None}, "$.username: "),
        ({"host": "ghcr.io"}, "$: additional properties 'host' not allowed"),
    ],
)
def test_a_credential_that_does_not_fit_is_refused(
    platform: Platform, changes: dict[str, Any], error: str
) -> None:
    response = platform.api.post("/registries", json={**CREDENTIAL, **changes})
    assert response.status_code == 422
    (line,) = response.json()["errors"]
    assert line.startswith(error)
    assert "hidden" not in response.text


def test_a_credential_pulls_where_there_is_no_delegation(bare_platform: Platform) -> None:
    right, wrong = _make(bare_platform), _make(bare_platform, password="expired")

    def create(registry: str | None) -> tuple[int, str]:
        response = bare_platform.api.post("/serverless", json={**body(), "registry": registry})
        return response.status_code, response.json().get("detail", "")

    assert create(right["id"])[0] == 201
    assert create(wrong["id"]) == (422, "pull access denied: the credential is wrong")
    assert "no delegation" in create(None)[1]
    assert create("other") == (404, "registry 'other' not found")


def test_a_credential_moves_to_the_next_one_under_an_endpoint(bare_platform: Platform) -> None:
    first = _make(bare_platform)
    endpoint = bare_platform.create(registry=first["id"])
    url = f"/serverless/{endpoint['id']}"
    wrong = _make(bare_platform, username="somebody")
    assert bare_platform.api.patch(url, json={"registry": wrong["id"]}).status_code == 422
    second = _make(bare_platform)
    assert bare_platform.api.patch(url, json={"registry": second["id"]}).json()["registry"] == second["id"]
    newest = bare_platform.api.get(f"{url}/releases").json()["releases"][0]
    assert newest["diff"] == [
        {"field": "template.containerRegistryAuthId", "old": first["id"], "new": second["id"]}
    ]
    assert bare_platform.api.delete(f"/registries/{first['id']}").status_code == 204
    assert bare_platform.api.get(url).json()["registry"] == second["id"]


def test_a_credential_is_held_by_workers_and_not_by_endpoints(platform: Platform) -> None:
    credential = _make(platform)
    url = f"/registries/{credential['id']}"
    busy = platform.create(registry=credential["id"])
    assert platform.edge(busy).get("/v1/models").status_code == 200
    refused = platform.api.delete(url)
    assert refused.status_code == 400
    assert busy["id"] in refused.json()["detail"]
    platform.api.delete(f"/serverless/{busy['id']}")
    idle = platform.create(registry=credential["id"])
    assert platform.api.delete(url).status_code == 204
    assert platform.api.get(f"/serverless/{idle['id']}").json()["registry"] is None


def test_a_credential_still_pulls_after_a_restart(own_platform: Platform, tmp_path: Path) -> None:
    credential = _make(own_platform)
    own_platform.cloud.stop()
    assert TOKEN not in json.dumps((tmp_path / "runpod" / "runpod.json").read_text())
    again = start_platform(tmp_path / "runpod")
    try:
        again.create(registry=credential["id"])
    finally:
        again.cloud.stop()
