"""Network volumes and registry credentials against the platform: taken over, kept, moved and removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra.runpod.api import BadRequestError
from infra.runpod.registry import RegistryCredentialProvider
from infra.runpod.volume import NetworkVolumeProvider
from tests.runpod.conftest import REPOSITORY_ARN, Platform
from tests.runpod.small_engine import USERNAME, Stack, Wanted, platform_in, short_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "berth/dev/runpod/0123456789abcdef"
VOLUME = NetworkVolumeProvider()
CREDENTIAL = RegistryCredentialProvider()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield the platform that the tests here have one after the other."""
    yield from platform_in(tmp_path_factory.mktemp("storage"))


@pytest.fixture
def cloud(shared: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    short_waits(monkeypatch)
    yield shared
    shared.clear()


def _volume(cloud: Platform, **changes: Any) -> dict[str, Any]:
    props = {"name": "llm", "size": 20.0, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    return {"apiUrl": cloud.cloud.endpoint, "marker": MARKER, **props, **changes}


def _credential(cloud: Platform, password: str = "first") -> dict[str, Any]:
    return {
        "apiUrl": cloud.cloud.endpoint,
        "marker": MARKER,
        "username": USERNAME,
        "password": password,
    }


def _volumes(cloud: Platform) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.api.get("/network-volumes").json()["networkVolumes"]
    return found


def _credentials(cloud: Platform) -> list[str]:
    return [item["id"] for item in cloud.api.get("/registries").json()["registries"]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (False, [])),
        ({"size": 30.0}, (True, [])),
        ({"name": "other"}, (True, [])),
        ({"size": 10.0}, (True, ["size"])),
        ({"dataCenter": "US-KS-2"}, (True, ["dataCenter"])),
        ({"type": "HIGH_PERFORMANCE"}, (True, ["type"])),
        ({"size": UNKNOWN}, (True, [])),
        ({"marker": UNKNOWN}, (True, [])),
    ],
)
def test_a_volume_grows_in_place_and_else_is_another(
    cloud: Platform, changes: dict[str, Any], expected: tuple[bool, list[str]]
) -> None:
    made = VOLUME.create(_volume(cloud))
    result = VOLUME.diff(made.id, {**(made.outs or {}), "__provider": "a"}, _volume(cloud, **changes))
    assert (result.changes, result.replaces) == expected
    assert result.delete_before_replace is False


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"size": 9.0}, ("size", "= 9.0 must be a whole number of GB, 10 to 4096")),
        ({"size": 4097.0}, ("size", "= 4097.0 must be a whole number of GB, 10 to 4096")),
        ({"type": "FAST"}, ("type", "= 'FAST' must be STANDARD or HIGH_PERFORMANCE")),
        ({"dataCenter": ""}, ("dataCenter", "is missing")),
    ],
)
def test_a_volume_that_runpod_would_refuse_is_refused_here(
    cloud: Platform, changes: dict[str, Any], failure: tuple[str, str]
) -> None:
    failures = VOLUME.check({}, _volume(cloud, **changes)).failures
    assert [(item.property, item.reason) for item in failures] == [failure]
    assert VOLUME.check({}, _volume(cloud, size=UNKNOWN, type=UNKNOWN)).failures == []


def test_a_volume_of_an_interrupted_attempt_is_taken_over_and_grown(cloud: Platform) -> None:
    first = VOLUME.create(_volume(cloud))
    assert VOLUME.create(_volume(cloud)).id == first.id
    assert VOLUME.create(_volume(cloud, size=40.0)).id == first.id
    assert [item["size"] for item in _volumes(cloud)] == [40]
    # A larger one may be the one that this replaces.
    assert VOLUME.create(_volume(cloud)).id != first.id
    assert VOLUME.create(_volume(cloud, marker=f"{MARKER}0")).id != first.id


def test_a_volume_that_was_renamed_or_grown_by_hand_is_seen(cloud: Platform) -> None:
    made = VOLUME.create(_volume(cloud))
    cloud.api.patch(f"/network-volumes/{made.id}", json={"name": "mine now", "size": 50})
    read = VOLUME.read(made.id, made.outs or {})
    assert read.outs == read.inputs
    assert read.outs == _volume(cloud, name="mine now", marker="", size=50)
    updated = VOLUME.update(made.id, read.outs or {}, _volume(cloud, size=60.0))
    assert updated.outs == _volume(cloud, size=60)
    cloud.api.delete(f"/network-volumes/{made.id}")
    assert VOLUME.read(made.id, made.outs or {}).id is None
    VOLUME.delete(made.id, made.outs or {})


def test_a_volume_in_use_is_waited_for_and_then_named(
    cloud: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.runpod.objects._GONE_SECONDS", 0.1)
    stack = Stack(cloud, "berth/dev/runpod")
    stack.up(Wanted(volumes=(("EU-RO-1", 20, "STANDARD"),)))
    kept = stack.state["volume-EU-RO-1"]
    with pytest.raises(BadRequestError, match=f"cannot delete network volume {kept.id}: .* is in use"):
        VOLUME.delete(kept.id, kept.outs)
    assert [item["id"] for item in _volumes(cloud)] == [kept.id]


def test_a_credential_that_an_interrupted_attempt_left_is_removed(cloud: Platform) -> None:
    left = CREDENTIAL.create(_credential(cloud))
    other = CREDENTIAL.create({**_credential(cloud), "marker": f"{MARKER}0"})
    made = CREDENTIAL.create(_credential(cloud))
    assert left.id not in (made.id, other.id)
    assert sorted(_credentials(cloud)) == sorted([made.id, other.id])


def test_a_credential_in_use_stays_until_the_endpoint_is_moved(cloud: Platform) -> None:
    stack = Stack(cloud, "berth/dev/runpod")
    stack.up(Wanted(password="first"))
    first = stack.state["credential"].id
    assert stack.up(Wanted(password="second")) == [
        "create credential",
        "update endpoint",
        "delete replaced",
    ]
    assert _credentials(cloud) == [stack.state["credential"].id] != [first]
    (endpoint,) = cloud.api.get("/serverless").json()["endpoints"]
    assert endpoint["registry"] == stack.state["credential"].id


def test_a_credential_that_is_gone_is_made_again(cloud: Platform) -> None:
    made = CREDENTIAL.create(_credential(cloud))
    assert CREDENTIAL.read(made.id, made.outs or {}).id == made.id
    cloud.api.delete(f"/registries/{made.id}")
    assert CREDENTIAL.read(made.id, made.outs or {}).id is None
    CREDENTIAL.delete(made.id, made.outs or {})


@pytest.mark.parametrize("key", ["username", "password", "marker"])
def test_any_other_credential_is_another(cloud: Platform, key: str) -> None:
    props = _credential(cloud)
    result = CREDENTIAL.diff("id", {**props, "__provider": "a"}, {**props, key: "other"})
    assert (result.replaces, result.delete_before_replace) == ([key], False)
    assert CREDENTIAL.diff("id", props, dict(props)).changes is False
    failures = CREDENTIAL.check({}, {**props, key: ""}).failures
    assert [(item.property, item.reason) for item in failures] == [(key, "is missing")]


def test_a_refused_password_is_in_no_error(cloud: Platform) -> None:
    cloud.fault("POST", "/v2/registries", "status", status=422, detail="Request validation failed.")
    with pytest.raises(
        Exception, match=r"See berth:runpod.registry_username in stacks/Pulumi.dev.yaml\."
    ) as caught:
        CREDENTIAL.create(_credential(cloud, "the-password"))
    assert "the-password" not in f"{caught.value!r} {vars(caught.value)}"


def test_destroying_the_marker_takes_what_carries_it_and_nothing_else(cloud: Platform) -> None:
    ours, theirs = Stack(cloud, "berth/dev/runpod"), Stack(cloud, "berth/prod/runpod")
    volumes = (("EU-RO-1", 20, "STANDARD"),)
    theirs.up(Wanted(password="first", volumes=volumes))
    before = json.dumps([cloud.api.get("/serverless").json(), _volumes(cloud), _credentials(cloud)])
    ours.up(Wanted(password="first", volumes=volumes))
    # The state is lost but for the marker.
    ours.state = {"marker": ours.state["marker"]}
    ours.destroy()
    after = json.dumps([cloud.api.get("/serverless").json(), _volumes(cloud), _credentials(cloud)])
    assert after == before
    delegations = cloud.api.get("/registries/delegations").json()["delegations"]
    assert [item["name"] for item in delegations] == [theirs.state["marker"].outs["value"]]
    assert REPOSITORY_ARN.endswith(delegations[0]["repository"])
