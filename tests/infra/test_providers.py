"""The dynamic providers: what their state holds, what they do when clouds fail, that they repeat nothing."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import boto3
import dill
import pytest
from botocore.stub import Stubber

from infra import codebuild
from infra.api_key import ApiKeyProvider
from infra.codebuild import BuildError
from infra.image_build import ImageBuildProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST = "sha256:" + "c" * 64
_PROPS = {
    "project": "berth-dev",
    "repository": "berth-dev",
    "tag": "0123456789abcdef",
    "region": "us-east-1",
    "endpoint": None,
    "timeout_minutes": 60,
}
_RUNNING = {
    "id": "berth-dev:1",
    "buildStatus": "IN_PROGRESS",
    "currentPhase": "BUILD",
    "environment": {
        "type": "LINUX_CONTAINER",
        "image": "x",
        "computeType": "BUILD_GENERAL1_LARGE",
        "environmentVariables": [{"name": "IMAGE_TAG", "value": _PROPS["tag"]}],
    },
}


class _Clouds:
    """Stubbed clients: they answer what was queued, in order, and nothing else."""

    def __init__(self) -> None:
        self._clients = {
            name: boto3.client(
                name, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
            )
            for name in ("ecr", "codebuild", "logs")
        }
        self._stubs = {name: Stubber(client) for name, client in self._clients.items()}
        for stub in self._stubs.values():
            stub.activate()

    def client(self, service: str, _props: dict[str, Any]) -> Any:
        return self._clients[service]

    def answer(self, service: str, operation: str, response: dict[str, Any]) -> None:
        self._stubs[service].add_response(operation, response)

    def refuse(self, service: str, operation: str, code: str, words: str = "") -> None:
        self._stubs[service].add_client_error(operation, code, words)

    def missing(self) -> None:
        self.refuse("ecr", "describe_images", "ImageNotFoundException")

    def there(self) -> None:
        self.answer("ecr", "describe_images", {"imageDetails": [{"imageDigest": _DIGEST}]})

    def nothing_is_left(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Clouds]:
    made = _Clouds()
    monkeypatch.setattr(codebuild, "client", made.client)
    monkeypatch.setattr(codebuild, "_POLL_SECONDS", 0.0)
    yield made
    made.nothing_is_left()


@pytest.mark.parametrize("provider", [ImageBuildProvider, ApiKeyProvider])
def test_state_names_the_provider_and_holds_no_code(provider: type) -> None:
    pickled = dill.dumps(provider(), recurse=True)
    assert len(pickled) < 100
    assert provider.__module__.encode() in pickled
    assert type(pickle.loads(pickled)) is provider  # our own bytes


@pytest.mark.parametrize("provider", [ImageBuildProvider(), ApiKeyProvider()])
def test_the_provider_s_own_bytes_are_no_change(provider: Any) -> None:
    olds, news = ({**_PROPS, "__provider": code} for code in ("old", "new"))
    assert provider.diff("id", olds, news).changes is False


def test_an_image_that_the_registry_has_is_not_built(clouds: _Clouds) -> None:
    clouds.there()
    made = ImageBuildProvider().create(_PROPS)
    assert made.id == "berth-dev:0123456789abcdef"
    assert made.outs == {**_PROPS, "digest": _DIGEST}


def test_an_image_that_is_missing_is_built(clouds: _Clouds) -> None:
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {})
    clouds.answer("codebuild", "start_build", {"build": _RUNNING})
    clouds.answer("codebuild", "batch_get_builds", {"builds": [_RUNNING]})
    clouds.answer("codebuild", "batch_get_builds", {"builds": [{**_RUNNING, "buildStatus": "SUCCEEDED"}]})
    clouds.there()
    outs = ImageBuildProvider().create(_PROPS).outs
    assert outs is not None
    assert outs["digest"] == _DIGEST


def test_a_build_that_an_interrupted_deployment_left_is_joined(clouds: _Clouds) -> None:
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {"ids": ["berth-dev:1"]})
    clouds.answer("codebuild", "batch_get_builds", {"builds": [_RUNNING]})
    clouds.answer("codebuild", "batch_get_builds", {"builds": [{**_RUNNING, "buildStatus": "SUCCEEDED"}]})
    clouds.there()
    ImageBuildProvider().create(_PROPS)


def test_a_build_that_does_not_end_is_not_waited_for_for_ever(clouds: _Clouds) -> None:
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {})
    clouds.answer("codebuild", "start_build", {"build": _RUNNING})
    with pytest.raises(BuildError, match="berth-dev:1 is still in phase BUILD after 0 minutes"):
        ImageBuildProvider().create({**_PROPS, "timeout_minutes": 0})


def test_waiting_longer_builds_no_image_again() -> None:
    assert ImageBuildProvider().diff("id", _PROPS, {**_PROPS, "timeout_minutes": 5}).changes is False


def test_a_build_of_other_content_is_not_joined(clouds: _Clouds) -> None:
    other = {
        **_RUNNING,
        "environment": {
            **_RUNNING["environment"],  # type: ignore[dict-item]
            "environmentVariables": [{"name": "IMAGE_TAG", "value": "other"}],
        },
    }
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {"ids": ["berth-dev:1"]})
    clouds.answer("codebuild", "batch_get_builds", {"builds": [other]})
    clouds.answer("codebuild", "start_build", {"build": {**_RUNNING, "buildStatus": "SUCCEEDED"}})
    clouds.there()
    ImageBuildProvider().create(_PROPS)


def test_a_failed_build_says_its_phase_and_the_end_of_its_log(clouds: _Clouds) -> None:
    failed = {
        **_RUNNING,
        "buildStatus": "FAILED",
        "phases": [
            {"phaseType": "PRE_BUILD", "phaseStatus": "SUCCEEDED"},
            {
                "phaseType": "BUILD",
                "phaseStatus": "FAILED",
                "contexts": [{"message": "Error while executing command: docker build"}],
            },
        ],
        "logs": {"groupName": "/aws/codebuild/berth-dev", "streamName": "1"},
    }
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {})
    clouds.answer("codebuild", "start_build", {"build": failed})
    clouds.answer("logs", "get_log_events", {"events": [{"message": "COPY: no such file: nothere\n"}]})
    with pytest.raises(BuildError) as caught:
        ImageBuildProvider().create(_PROPS)
    said = str(caught.value)
    assert "build berth-dev:1 ended as FAILED" in said
    assert "phase BUILD: Error while executing command: docker build" in said
    assert said.endswith("  COPY: no such file: nothere")


def test_a_build_that_pushed_nothing_is_an_error(clouds: _Clouds) -> None:
    clouds.missing()
    clouds.answer("codebuild", "list_builds_for_project", {})
    clouds.answer("codebuild", "start_build", {"build": {**_RUNNING, "buildStatus": "SUCCEEDED"}})
    clouds.missing()
    with pytest.raises(BuildError, match="pushed no berth-dev:0123456789abcdef"):
        ImageBuildProvider().create(_PROPS)


def test_no_rights_is_not_taken_for_no_image(clouds: _Clouds) -> None:
    clouds.refuse("ecr", "describe_images", "AccessDeniedException", "not authorized")
    with pytest.raises(Exception, match="not authorized"):
        ImageBuildProvider().create(_PROPS)


def test_an_image_that_is_gone_is_seen_by_refresh(clouds: _Clouds) -> None:
    clouds.missing()
    assert ImageBuildProvider().read("berth-dev:x", {**_PROPS, "digest": _DIGEST}).id is None
    clouds.there()
    read = ImageBuildProvider().read("berth-dev:x", {**_PROPS, "digest": "sha256:old"})
    assert read.id == "berth-dev:x"
    assert read.outs is not None
    assert read.outs["digest"] == _DIGEST


def test_other_content_is_an_update_with_another_digest(clouds: _Clouds) -> None:
    provider = ImageBuildProvider()
    assert provider.diff("id", _PROPS, {**_PROPS, "tag": "new"}).changes is True
    assert not provider.diff("id", _PROPS, {**_PROPS, "tag": "new"}).replaces
    clouds.there()
    outs = provider.update("id", _PROPS, {**_PROPS, "tag": "new"}).outs
    assert outs is not None
    assert outs["tag"] == "new"


def test_deleting_leaves_the_image_to_its_repository(clouds: _Clouds) -> None:
    ImageBuildProvider().delete("id", _PROPS)
    clouds.nothing_is_left()


def test_keys_are_random_and_long() -> None:
    keys = set()
    for _ in range(10):
        outs = ApiKeyProvider().create({}).outs
        assert outs is not None
        keys.add(outs["key"])
    assert len(keys) == 10
    assert all(key.startswith("sk-") and len(key) > 40 for key in keys)


def test_a_key_stays_when_it_is_refreshed() -> None:
    read = ApiKeyProvider().read("id", {"key": "sk-1"})
    assert (read.id, read.outs) == ("id", {"key": "sk-1"})
