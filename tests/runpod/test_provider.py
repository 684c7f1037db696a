"""The dynamic providers against the platform: the life of each resource, drift, faults at each step."""

from __future__ import annotations

import base64
import json
import pickletools
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from pulumi.dynamic import ConfigureRequest
from pulumi.dynamic.config import Config
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.rpc import UNKNOWN

from infra.runpod.api import NoAnswerError, RunpodError, UnauthorizedError
from infra.runpod.body import MARKER_VARIABLE
from infra.runpod.connection import MissingKeyError
from infra.runpod.provider import (
    EcrDelegation,
    EcrDelegationProvider,
    Endpoint,
    EndpointProvider,
    Marker,
    MarkerProvider,
)
from infra.runpod.registry import RegistryCredential, RegistryCredentialProvider
from infra.runpod.volume import NetworkVolume, NetworkVolumeProvider
from tests.runpod.conftest import IMAGE, KEY, OTHER_IMAGE, REPOSITORY_ARN, Platform, body

if TYPE_CHECKING:
    from pulumi.dynamic import Resource, ResourceProvider

MARKER = "berth/test/endpoint/0123456789abcdef"
ENDPOINT = EndpointProvider()
DELEGATION = EcrDelegationProvider()
VOLUME = NetworkVolumeProvider()
CREDENTIAL = RegistryCredentialProvider()


@pytest.fixture(autouse=True)
def _key_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    for module in ("api", "objects"):
        monkeypatch.setattr(f"infra.runpod.{module}._BACK_OFF", tenacity.wait_fixed(0.01))
    monkeypatch.setattr("infra.runpod.objects._GONE_WAIT", tenacity.wait_fixed(0.01))


def _props(platform: Platform, **changes: Any) -> dict[str, Any]:
    """Return inputs as the engine hands them over: every number a float."""
    props = {
        "apiUrl": platform.cloud.endpoint,
        "marker": MARKER,
        **body(),
        "disk": 20,
        "dataCenterIds": [],
        "networkVolumes": [],
        "flashboot": "OFF",
        "timeout": 330_000,
        "__provider": "pickled",
        **changes,
    }
    floats: dict[str, Any] = json.loads(json.dumps(props), parse_int=float)
    return floats


def _listed(platform: Platform) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = platform.api.get("/serverless").json()["endpoints"]
    return found


def _changes(olds: dict[str, Any], news: dict[str, Any]) -> tuple[bool | None, list[str] | None]:
    result = ENDPOINT.diff("id", {**olds, "__provider": "older"}, news)
    return result.changes, result.replaces


@pytest.mark.parametrize(
    ("provider", "reference"),
    [
        # These are in the state of every stack: a change here makes stacks that are up unusable.
        (ENDPOINT, ("infra.runpod.provider", "EndpointProvider")),
        (DELEGATION, ("infra.runpod.provider", "EcrDelegationProvider")),
        (MarkerProvider(), ("infra.runpod.provider", "MarkerProvider")),
        (VOLUME, ("infra.runpod.volume", "NetworkVolumeProvider")),
        (CREDENTIAL, ("infra.runpod.registry", "RegistryCredentialProvider")),
    ],
)
def test_providers_are_pickled_by_reference(provider: ResourceProvider, reference: tuple[str, str]) -> None:
    provider.configure(ConfigureRequest(Config({"berth:runpodApiKey": KEY}, "berth")))
    pickled = base64.b64decode(serialize_provider(type(provider)()))
    texts = tuple(argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str))
    assert texts == reference
    assert not provider.serialize_as_secret_always


@pytest.mark.parametrize(
    ("resource", "token"),
    [
        (Endpoint, "pulumi-python:dynamic/runpod:Endpoint"),
        (EcrDelegation, "pulumi-python:dynamic/runpod:EcrDelegation"),
        (Marker, "pulumi-python:dynamic/runpod:Marker"),
        (NetworkVolume, "pulumi-python:dynamic/runpod:NetworkVolume"),
        (RegistryCredential, "pulumi-python:dynamic/runpod:RegistryCredential"),
    ],
)
def test_resources_keep_the_types_that_are_in_state(resource: type[Resource], token: str) -> None:
    assert f"pulumi-python:{resource._resource_type_name}" == token


def test_the_whole_life_of_an_endpoint(platform: Platform) -> None:
    props = _props(platform)
    assert ENDPOINT.check({}, props).failures == []
    made = ENDPOINT.create(props)
    (there,) = _listed(platform)
    assert there["id"] == made.id
    assert there["env"] == {**props["env"], MARKER_VARIABLE: MARKER}
    assert there["gpu"]["count"] == 1
    outs = made.outs
    assert outs is not None
    assert outs["env"] == props["env"]
    assert outs["url"] == there["requestUrls"]["base"]
    assert outs["health"].endswith("/ping")
    assert KEY not in json.dumps(outs)
    assert _changes(outs, props) == (False, [])

    read = ENDPOINT.read(made.id, outs)
    assert (read.id, read.outs) == (made.id, outs)
    assert _changes(read.inputs or {}, props) == (False, [])

    edited = _props(
        platform, args="model --max-model-len 1024", workers={"min": 0, "max": 2, "idleTimeout": 5}
    )
    assert _changes(outs, edited) == (True, [])
    updated = ENDPOINT.update(made.id, outs, edited)
    (there,) = _listed(platform)
    assert (there["id"], there["args"], there["workers"]["max"]) == (made.id, "model --max-model-len 1024", 2)
    assert updated.outs is not None
    assert _changes(updated.outs, edited) == (False, [])

    ENDPOINT.delete(made.id, updated.outs)
    assert _listed(platform) == []
    ENDPOINT.delete(made.id, updated.outs)
    gone = ENDPOINT.read(made.id, outs)
    assert (gone.id, gone.outs) == (None, {})


def test_a_second_create_takes_over_what_the_first_made_and_brings_it_up_to_date(platform: Platform) -> None:
    first = ENDPOINT.create(_props(platform))
    second = ENDPOINT.create(_props(platform, name="renamed", image=OTHER_IMAGE))
    assert second.id == first.id
    (there,) = _listed(platform)
    assert (there["name"], there["image"]) == ("renamed", OTHER_IMAGE)
    third = ENDPOINT.create(_props(platform, marker="berth/test/endpoint/another"))
    assert third.id != first.id


def test_a_strangers_endpoint_of_the_same_name_is_left_alone(platform: Platform) -> None:
    stranger = platform.create()
    made = ENDPOINT.create(_props(platform))
    assert made.id != stranger["id"]
    assert platform.api.get(f"/serverless/{stranger['id']}").json() == stranger


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("drop_before", {}),
        ("drop_after", {}),
        ("status", {"status": 500}),
        ("status", {"status": 429, "retry_after_seconds": 0.2}),
    ],
)
@pytest.mark.parametrize(
    ("step", "method", "path"),
    [
        ("create", "GET", "/v2/serverless"),
        ("create", "POST", "/v2/serverless"),
        ("read", "GET", "/v2/serverless/[a-z0-9]+"),
        ("update", "GET", "/v2/serverless/[a-z0-9]+"),
        ("update", "PATCH", "/v2/serverless/[a-z0-9]+"),
        ("delete", "DELETE", "/v2/serverless/[a-z0-9]+"),
        ("delete", "GET", "/v2/serverless/[a-z0-9]+"),
    ],
)
def test_no_step_is_lost_or_done_twice_under_a_fault(
    platform: Platform, step: str, method: str, path: str, kind: str, options: dict[str, Any]
) -> None:
    def fault(at: str) -> None:
        if at == step:
            platform.fault(method, path, kind, **options)

    fault("create")
    made = ENDPOINT.create(_props(platform))
    assert len(_listed(platform)) == 1
    outs = made.outs or {}
    fault("read")
    assert ENDPOINT.read(made.id, outs).outs == outs
    edited = _props(platform, args="other")
    fault("update")
    ENDPOINT.update(made.id, outs, edited)
    assert [item["args"] for item in _listed(platform)] == ["other"]
    assert platform.api.get(f"/serverless/{made.id}/releases").json()["endpointVersion"] == 2
    fault("delete")
    ENDPOINT.delete(made.id, outs)
    assert _listed(platform) == []


def test_a_platform_that_stays_down_is_one_line(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.runpod.api._ATTEMPTS", 2)
    monkeypatch.setattr("infra.runpod.objects._CREATE_ATTEMPTS", 2)
    platform.fault("POST", "/v2/serverless", "drop_after", count=1)
    platform.fault("GET", "/v2/serverless", "drop_before", count=5)
    with pytest.raises(NoAnswerError) as caught:
        ENDPOINT.create(_props(platform))
    assert str(caught.value).startswith("RunPod: cannot look for endpoint llm: no answer from http://127.")
    assert "\n" not in str(caught.value)


def test_drift_is_seen_by_read_and_repaired_by_update(platform: Platform) -> None:
    props = _props(platform)
    made = ENDPOINT.create(props)
    url = f"/serverless/{made.id}"
    platform.api.patch(url, json={"workers": {"max": 0}})  # what the platform does to an idle endpoint
    platform.api.patch(url, json={"env": {"PORT": "8000", "EDITED": "by hand"}})
    read = ENDPOINT.read(made.id, made.outs or {})
    assert read.outs is not None
    assert read.outs["workers"]["max"] == 0
    assert (read.outs["env"]["EDITED"], read.outs["marker"]) == ("by hand", "")
    assert _changes(read.outs, props) == (True, [])
    repaired = ENDPOINT.update(made.id, read.outs, props)
    (there,) = _listed(platform)
    assert there["workers"]["max"] == 1
    assert there["env"] == {**props["env"], MARKER_VARIABLE: MARKER}
    assert _changes(repaired.outs or {}, props) == (False, [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "QUEUE", "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}, (True, ["type"])),
        ({"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 4}]}, (True, ["gpu", "cpu"])),
        ({"image": OTHER_IMAGE}, (True, [])),
        ({"image": UNKNOWN}, (True, [])),
        ({"env": {"PORT": "8000", "TOKEN": UNKNOWN}}, (True, [])),
        ({"marker": UNKNOWN}, (True, [])),
        ({"timeout": 300_000}, (True, [])),
        ({"registry": None}, (False, [])),
        ({"ports": ["8001/http", "8000/http"]}, (False, [])),
        ({"gpu": {"pools": ["AMPERE_24"], "minCudaVersion": "12.8", "excludedTypes": []}}, (False, [])),
        ({"gpu": {"pools": ["AMPERE_24"], "minCudaVersion": "12.9"}}, (True, [])),
    ],
)
def test_diff_compares_settings_not_spelling(
    platform: Platform, changes: dict[str, Any], expected: tuple[bool, list[str]]
) -> None:
    made = ENDPOINT.create(_props(platform))
    assert _changes(made.outs or {}, _props(platform, **changes)) == expected


def test_an_update_clears_what_is_no_longer_wanted(platform: Platform) -> None:
    gpu = {
        "pools": ["AMPERE_24", "ADA_24"],
        "excludedTypes": ["NVIDIA L4"],
        "count": 1,
        "minCudaVersion": "12.8",
    }
    made = ENDPOINT.create(_props(platform, gpu=gpu))
    wanted = _props(
        platform, gpu={"pools": ["ADA_24"], "allowedCudaVersions": ["12.8"]}, env={"PORT": "8000"}
    )
    updated = ENDPOINT.update(made.id, made.outs or {}, wanted)
    (there,) = _listed(platform)
    assert there["gpu"] == {
        "pools": ["ADA_24"],
        "count": 1,
        "minCudaVersion": None,
        "allowedCudaVersions": ["12.8"],
    }
    assert _changes(updated.outs or {}, wanted) == (False, [])


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"image": None}, ("image", "is missing")),
        ({"disk": None}, ("disk", "is missing")),
        ({"workers": {"min": 0, "max": 1}}, ("workers.idleTimeout", "is missing")),
        ({"type": "LB"}, ("type", "= 'LB' must be QUEUE or LOAD_BALANCER")),
        ({"cpu": [{"id": "cpu5c", "vcpuCount": 2}]}, ("gpu", "or cpu: exactly one of them must be given")),
        ({"gpu": {"count": 1}}, ("gpu.pools", "is missing: at least one GPU pool")),
        ({"workers": {"min": 2, "max": 1}}, ("workers.min", "= 2 must be workers.max (1) or less")),
        (
            {"workers": {"max": 1, "idleTimeout": 0}},
            ("workers.idleTimeout", "= 0.0 must be seconds, 1 to 3600"),
        ),
        (
            {"scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}},
            ("scaling.type", "= 'QUEUE_DELAY' must be REQUEST_COUNT: type LOAD_BALANCER scales by it"),
        ),
        ({"timeout": 4000}, ("timeout", "= 4000.0 must be milliseconds, 5000 to 604800000")),
        (
            {"ports": ["8001/http"]},
            ("ports", 'must have "8000/http", the PORT of env: the load balancer sends requests there'),
        ),
        ({"env": {"PORT": 8000}}, ("env.PORT", "must be a text")),
        (
            {"env": {"PORT": "8000", MARKER_VARIABLE: "x"}},
            (f"env.{MARKER_VARIABLE}", "is set by berth itself"),
        ),
        ({"workersMax": 1}, ("workersMax", "is not a property of an endpoint")),
    ],
)
def test_check_refuses_offline_what_the_platform_would_refuse(
    platform: Platform, changes: dict[str, Any], failure: tuple[str, str]
) -> None:
    props = {**_props(platform, **changes), "apiUrl": "http://127.0.0.1:1/v2"}
    failures = [(item.property, item.reason) for item in ENDPOINT.check({}, props).failures]
    assert failure in failures


@pytest.mark.parametrize(
    "key", ["image", "env", "gpu", "workers", "scaling", "ports", "type", "marker", "apiUrl"]
)
def test_check_takes_what_is_not_known_yet(platform: Platform, key: str) -> None:
    assert ENDPOINT.check({}, _props(platform, **{key: UNKNOWN})).failures == []


def test_errors_say_what_the_platform_said_and_never_the_key(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunpodError, match=r"422 .*manifest unknown") as refused:
        ENDPOINT.create(_props(platform, image=IMAGE[:-1] + "f"))
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_wrong_secret")
    with pytest.raises(UnauthorizedError) as wrong:
        ENDPOINT.read("id", _props(platform))
    assert "rpa_wrong_secret" not in f"{wrong.value!r} {wrong.value}"
    assert "RUNPOD_API_KEY" in str(wrong.value)
    assert _listed(platform) == []


def test_the_key_comes_from_the_environment_then_from_the_configuration(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = EndpointProvider()
    monkeypatch.delenv("RUNPOD_API_KEY")
    with pytest.raises(MissingKeyError, match="berth:runpodApiKey"):
        provider.read("id", _props(platform))
    provider.configure(ConfigureRequest(Config({"berth:runpodApiKey": KEY}, "berth")))
    assert provider.read("id", _props(platform)).id is None
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_wrong")
    with pytest.raises(UnauthorizedError):
        provider.read("id", _props(platform))


@pytest.mark.parametrize("kind", [None, "drop_before", "drop_after"])
def test_the_whole_life_of_a_delegation(bare_platform: Platform, kind: str | None) -> None:
    props = {"apiUrl": bare_platform.cloud.endpoint, "marker": MARKER, "resource": REPOSITORY_ARN}
    if kind:
        bare_platform.fault("POST", "/v2/registries/delegations", kind)
    assert DELEGATION.check({}, dict(props)).failures == []
    made = DELEGATION.create(props)
    listed = bare_platform.api.get("/registries/delegations").json()["delegations"]
    assert [(item["id"], item["name"]) for item in listed] == [(made.id, MARKER)]
    assert DELEGATION.read(made.id, props).id == made.id
    assert DELEGATION.create(props).id == made.id
    other = {**props, "resource": f"{REPOSITORY_ARN}-other"}
    assert DELEGATION.diff(made.id, props, dict(props)).changes is False
    assert DELEGATION.diff(made.id, props, other).replaces == ["resource"]
    bare_platform.registry.repositories.add("berth/vllm-other")
    replacement = DELEGATION.create(other)
    assert replacement.id != made.id
    DELEGATION.delete(made.id, props)
    DELEGATION.delete(made.id, props)
    assert DELEGATION.read(replacement.id, other).id == replacement.id
    assert DELEGATION.read(made.id, props).id is None


def test_a_delegation_wants_an_arn() -> None:
    failures = DELEGATION.check({}, {"resource": "berth/vllm"}).failures
    assert [item.property for item in failures] == ["resource"]
    assert DELEGATION.check({}, {"resource": UNKNOWN}).failures == []


def test_markers_differ_and_stay(platform: Platform) -> None:
    provider = MarkerProvider()
    props = {"apiUrl": platform.cloud.endpoint, "owner": "berth/dev/model"}
    first, second = (provider.create(dict(props)) for _ in range(2))
    assert first.outs is not None
    assert second.outs is not None
    assert first.outs["value"] != second.outs["value"]
    assert first.outs["value"].startswith("berth/dev/model/")
    assert provider.diff(first.id, first.outs, dict(props)).changes is False
    assert provider.read(first.id, first.outs).outs == first.outs
    moved = {**props, "apiUrl": "https://api.runpod.example/v2"}
    assert provider.diff(first.id, first.outs, moved).changes is True
    updated = provider.update(first.id, first.outs, moved).outs
    assert updated == {**first.outs, **moved}
